"""Calls over gRPC: bytes out, bytes in, nothing decoded."""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import grpc.aio

from infermesh.loadgen.recording import OK
from infermesh.mesh.channel import connect
from infermesh.mesh.status import from_rpc_error

INFER: Final = "/inference.GRPCInferenceService/ModelInfer"


class GrpcCaller:
    """A `runner.Caller` over several connections, used in turn. Construct it in the event loop that will use it."""

    def __init__(self, address: str, messages: Sequence[bytes], connections: int = 1) -> None:
        self._channels = [connect(address) for _ in range(connections)]
        self._calls: list[Any] = [channel.unary_unary(INFER) for channel in self._channels]
        self._messages = messages

    async def open(self, timeout: float) -> None:
        """Connects, and makes one call on each connection. Raises the MeshError that such a call ends with."""
        first = [call(self._messages[0], timeout=timeout, wait_for_ready=True) for call in self._calls]
        try:
            await asyncio.gather(*first)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error

    async def call(self, number: int, timeout: float) -> str:
        """Sends message `number` (modulo); returns OK, or code and reason of its failure."""
        call = self._calls[number % len(self._calls)]
        try:
            await call(self._messages[number % len(self._messages)], timeout=timeout)
        except grpc.aio.AioRpcError as error:
            return f"{error.code().name} {from_rpc_error(error).reason}"
        return OK

    async def close(self) -> None:
        """Closes the connections; calls under way are cancelled."""
        for channel in self._channels:
            await channel.close()
