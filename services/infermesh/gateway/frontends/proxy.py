"""Passes the mesh's own services on: registry and scheduler are reachable through the one public port.

Messages are never decoded. What is of no concern to clients is refused by name.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Final

import grpc
import grpc.aio
from starlette.routing import BaseRoute

from infermesh.errors import MeshError, NotReady, PermissionDenied
from infermesh.gateway.framing.failure import RpcFailure
from infermesh.gateway.framing.methods import Context, Method, Methods
from infermesh.gateway.frontends.base import Parts
from infermesh.mesh.status import DETAILS_KEY
from infermesh.v1 import (
    artifact_service_pb2,
    deployment_service_pb2,
    model_service_pb2,
    scheduler_service_pb2,
    state_service_pb2,
)

_OPERATIONS: Final = ("GetOperation", "ListOperations", "WaitOperation", "CancelOperation", "DeleteOperation")
_INTERNAL: Final = frozenset({"/infermesh.v1.SchedulerService/Heartbeat"})
_NOT_CONNECTED: Final = ("connections to all backends failing", "failed to connect to all addresses")  # gRPC's words
_STANDING: Final = frozenset({"/infermesh.v1.SchedulerService/WatchRoutes"})


class ProxyFrontend:
    """The registry's services, and what of the scheduler's is for clients."""

    def __init__(self, parts: Parts) -> None:
        self._registry = parts.registry
        self._scheduler = parts.scheduler

    def methods(self) -> Methods:
        """Returns a method for each of the services' methods, with the same arity."""
        methods = {f"/google.longrunning.Operations/{name}": _forwarding(self._registry) for name in _OPERATIONS}
        for module in (model_service_pb2, artifact_service_pb2, deployment_service_pb2):
            methods |= _service(module, self._registry)
        methods |= _service(scheduler_service_pb2, self._scheduler)
        internal = [path for path in _service(state_service_pb2, self._registry)]
        return methods | {path: Method(_refuse, client_stream=True) for path in (*internal, *_INTERNAL)}

    def routes(self) -> Sequence[BaseRoute]:
        """Returns nothing."""
        return ()


def _service(module: Any, channel: grpc.aio.Channel) -> dict[str, Method]:
    return {
        f"/{service.full_name}/{method.name}": _forwarding(
            channel,
            method.client_streaming,
            method.server_streaming,
            f"/{service.full_name}/{method.name}" in _STANDING,
        )
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }


def _forwarding(
    channel: grpc.aio.Channel, client_stream: bool = False, server_stream: bool = False, standing: bool = False
) -> Method:
    forward = Forward(channel, client_stream)
    handler = forward.many if server_stream else forward.one
    return Method(handler, client_stream, server_stream, standing)


async def _refuse(request: Any, context: Context) -> bytes:
    raise PermissionDenied(f"{context.path} is for members of the mesh; it is not served on the public port")


class Forward:
    """Makes the same call on another channel: bytes, metadata and deadline on, status and metadata back unchanged."""

    def __init__(self, channel: grpc.aio.Channel, client_stream: bool) -> None:
        self._channel = channel
        self._client_stream = client_stream

    async def one(self, request: Any, context: Context) -> bytes:
        """Returns the one response."""
        kind = self._channel.stream_unary if self._client_stream else self._channel.unary_unary
        source = Source(request) if self._client_stream else request
        call: Any = kind(context.path)(source, **_options(context))
        with _passed_on(call, source):
            response: bytes = await call
            context.initial = _pairs(await call.initial_metadata())
            context.trailing = _pairs(await call.trailing_metadata())
        return response

    async def many(self, request: Any, context: Context) -> AsyncIterator[bytes]:
        """Yields the responses, no faster than the caller takes them."""
        kind = self._channel.stream_stream if self._client_stream else self._channel.unary_stream
        source = Source(request) if self._client_stream else request
        call: Any = kind(context.path)(source, **_options(context))
        with _passed_on(call, source):
            context.initial = _pairs(await call.initial_metadata())
            async for response in call:
                yield response
            context.trailing = _pairs(await call.trailing_metadata())


@contextlib.contextmanager
def _passed_on(call: Any, source: Any) -> Iterator[None]:
    """Ends the call to the other room with the block; its failure, or that of its source, becomes the caller's."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise failure_of(error) from error
    except asyncio.CancelledError:
        if isinstance(source, Source) and source.broken is not None:
            raise source.broken from None
        raise
    finally:
        call.cancel()


class Source:
    """Requests on their way, and what broke them: gRPC only says that it has cancelled such a call."""

    def __init__(self, requests: AsyncIterator[bytes]) -> None:
        self._requests = requests
        self.broken: MeshError | None = None

    def __aiter__(self) -> "Source":
        return self

    async def __anext__(self) -> bytes:
        try:
            return await anext(self._requests)
        except MeshError as error:
            self.broken = error
            raise


def failure_of(error: grpc.aio.AioRpcError) -> Exception:
    """Returns what ends our caller's call: the same status, with its details and trailing metadata.

    A status that the service did not send, because the way to it is broken, is told in words that name no address.
    """
    trailing = _pairs(error.trailing_metadata(), DETAILS_KEY)
    text = error.details() or ""
    if error.code() is not grpc.StatusCode.UNAVAILABLE or trailing:
        return RpcFailure(error.code().value[0], text, trailing)
    if text.startswith(_NOT_CONNECTED):  # not begun, so that it may be repeated
        return NotReady("the service behind the gateway can't be reached at the moment: try again", retry_after=1.0)
    return NotReady("the connection to the service behind the gateway broke during the call")


def _options(context: Context) -> dict[str, Any]:
    left = context.time_left()
    return {"metadata": context.metadata(), "timeout": None if left is None else max(left, 0.0)}


def _pairs(metadata: Any, *keep: str) -> list[tuple[str, str | bytes]]:
    return [(key, value) for key, value in metadata or () if key in keep or not key.startswith("grpc-")]
