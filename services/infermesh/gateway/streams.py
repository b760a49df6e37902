"""The seam between the gateway and a worker: one stream of bundles. Real by gRPC; tests have one in memory."""

import asyncio
from typing import Any, Protocol

import grpc
import grpc.aio

from infermesh.errors import MeshError, WorkerLost
from infermesh.mesh.channel import connect
from infermesh.mesh.status import from_rpc_error
from infermesh.mesh.tls import Certificates
from infermesh.v1.worker_service_pb2 import ResultBundle, WorkBundle
from infermesh.v1.worker_service_pb2_grpc import WorkerServiceStub


class ServeStream(Protocol):
    """One `WorkerService.Serve` stream. One task reads, another writes."""

    async def read(self) -> ResultBundle:
        """Returns the next bundle. Raises WorkerLost once the stream has ended, however it did."""
        ...

    async def write(self, bundle: WorkBundle) -> None:
        """Sends a bundle; returns when the next may be sent. Awaits futures only, see `Writer`.

        Raises WorkerLost once the stream has ended.
        """
        ...

    async def close(self) -> None:
        """Ends the stream at once. Never raises."""
        ...


class Connect(Protocol):
    """Opens streams."""

    def __call__(self, address: str, /) -> ServeStream:
        """Returns a stream to the worker at `address` (host:port). Does not block: a worker that isn't there is
        noticed by reading."""
        ...


class GrpcServeStream:
    """A stream over a channel of its own: what one connection went through must not slow the next one's coming."""

    def __init__(self, address: str, certificates: Certificates | None = None) -> None:
        self._address = address
        self._channel = connect(address, certificates)
        self._call: Any = WorkerServiceStub(self._channel).Serve()  # type: ignore[no-untyped-call]

    async def read(self) -> ResultBundle:
        """Returns the next bundle. Raises WorkerLost once the stream has ended."""
        try:
            bundle: ResultBundle = await self._call.read()
        except grpc.RpcError as error:
            raise self._lost(from_rpc_error(error)) from error
        if bundle is grpc.aio.EOF:
            raise self._lost(None)
        return bundle

    async def write(self, bundle: WorkBundle) -> None:
        """Sends a bundle. Raises WorkerLost once the stream has ended."""
        try:
            await self._call.write(bundle)
        except grpc.RpcError as error:
            raise self._lost(from_rpc_error(error)) from error
        except (asyncio.InvalidStateError, grpc.aio.UsageError) as error:  # it ended between two writes
            raise self._lost(None) from error

    async def close(self) -> None:
        """Ends the stream and its connection."""
        self._call.cancel()
        await self._channel.close()

    def _lost(self, error: MeshError | None) -> WorkerLost:
        text = f"the worker at {self._address} was lost: {error.message if error else 'it ended the stream'}"
        return WorkerLost(text, metadata={"address": self._address}, retry_after=1.0)
