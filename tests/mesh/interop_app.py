"""gRPC's own `grpc.testing.TestService`, mounted on our framing: what its interop client talks to.

`python -m tests.mesh.interop_app --ready-file F` serves it under the gateway's supervisor.
"""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Sequence
from typing import Any

from starlette.routing import BaseRoute

from infermesh.gateway import protection
from infermesh.gateway.config import GatewayConfig
from infermesh.gateway.framing.exchange import Scope, Send
from infermesh.gateway.framing.failure import RpcFailure
from infermesh.gateway.framing.guard import Guard
from infermesh.gateway.framing.inbound import Receive
from infermesh.gateway.framing.methods import Context, Methods, bidi, client_stream, server_stream, unary
from infermesh.gateway.front import Front, mount
from infermesh.gateway.lifespan import live
from infermesh.gateway.main import main
from infermesh.mesh.health import Health
from infermesh.mesh.process import run
from tests.mesh.interop_messages import message

_INITIAL, _TRAILING = "x-grpc-test-echo-initial", "x-grpc-test-echo-trailing-bin"


class TestService:
    """A front end with the interop methods, and three of our own: who is the process, what hangs, what fails."""

    __test__ = False

    def methods(self) -> Methods:
        """Returns the methods."""
        service = "/grpc.testing.TestService"
        return {
            f"{service}/EmptyCall": unary(message("Empty"), self._empty),
            f"{service}/UnaryCall": unary(message("SimpleRequest"), self._unary),
            f"{service}/StreamingInputCall": client_stream(message("StreamingInputCallRequest"), self._input),
            f"{service}/StreamingOutputCall": server_stream(message("StreamingOutputCallRequest"), self._output),
            f"{service}/FullDuplexCall": bidi(message("StreamingOutputCallRequest"), self._duplex),
            "/test.Process/Pid": unary(message("Empty"), self._pid),
            "/test.Process/Hang": unary(message("Empty"), self._hang),
            "/test.Process/Fail": unary(message("Empty"), self._fail),
            "/test.Process/Slow": unary(message("Empty"), self._slow),
        }

    def routes(self) -> Sequence[BaseRoute]:
        """Returns nothing."""
        return ()

    async def _empty(self, request: Any, context: Context) -> Any:
        return request

    async def _unary(self, request: Any, context: Context) -> Any:
        _echo(context)
        _fail_if_asked(request)
        return message("SimpleResponse")(payload=_payload(request.response_size))

    async def _input(self, requests: AsyncIterator[Any], context: Context) -> Any:
        size = 0
        async for request in requests:
            size += len(request.payload.body)
        return message("StreamingInputCallResponse")(aggregated_payload_size=size)

    async def _output(self, request: Any, context: Context) -> AsyncIterator[Any]:
        for wanted in request.response_parameters:
            await asyncio.sleep(wanted.interval_us / 1e6)
            yield message("StreamingOutputCallResponse")(payload=_payload(wanted.size))

    async def _duplex(self, requests: AsyncIterator[Any], context: Context) -> AsyncIterator[Any]:
        _echo(context)
        async for request in requests:
            _fail_if_asked(request)
            async for response in self._output(request, context):
                yield response

    async def _pid(self, request: Any, context: Context) -> Any:
        return message("SimpleRequest")(response_size=os.getpid())

    async def _hang(self, request: Any, context: Context) -> Any:
        await asyncio.Event().wait()

    async def _slow(self, request: Any, context: Context) -> Any:
        await asyncio.sleep(0.7)
        return request

    async def _fail(self, request: Any, context: Context) -> Any:
        raise RuntimeError("the secret is 42")


def _payload(size: int) -> Any:
    return message("Payload")(body=bytes(size))


def _fail_if_asked(request: Any) -> None:
    if request.response_status.code:
        raise RpcFailure(request.response_status.code, request.response_status.message)


def _echo(context: Context) -> None:
    pairs = context.metadata()
    context.initial = [pair for pair in pairs if pair[0] == _INITIAL]
    context.trailing = [pair for pair in pairs if pair[0] == _TRAILING]


@contextlib.asynccontextmanager
async def building(config: GatewayConfig, health: Health) -> AsyncIterator[Front]:
    """Builds a front with nothing but the test service."""
    yield mount([TestService()], Guard(protection.requests(config)))


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """What Envoy runs."""
    if scope["type"] == "lifespan":
        await live(scope, receive, send, building)
    else:
        await scope["state"]["front"](scope, receive, send)


async def _serve(argv: Sequence[str]) -> None:
    await main(argv, f"{__spec__.name}:app" if __spec__ else "")


if __name__ == "__main__":
    sys.exit(run(_serve))
