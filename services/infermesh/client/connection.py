"""How the client calls: deadlines, safe repeats, typed errors, trace context. Used by the rest of this room."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import grpc.aio
from google.protobuf.message import Message
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from infermesh.client.retry import Retry
from infermesh.client.tls import Tls, certificates
from infermesh.errors import Cancelled, DeadlineExceeded, FailedPrecondition, InvalidInput, MeshError, NotReady
from infermesh.mesh.channel import connect
from infermesh.mesh.clock import Clock, SystemClock
from infermesh.mesh.status import from_rpc_error

Req = TypeVar("Req", bound=Message)
Res = TypeVar("Res", bound=Message)
Item = TypeVar("Item")
Metadata = tuple[tuple[str, str], ...]

_PROPAGATOR: Final = TraceContextTextMapPropagator()

# what gRPC says of a message that it could not send because the peer had just ended the call; the peer's own status,
# if there was one, is lost then
_BROKEN_OFF: Final = "Internal error from Core"


@dataclass(frozen=True)
class Method(Generic[Req, Res]):
    """One rpc: its path and messages. `safe` says that it may run twice without harm."""

    path: str
    request: type[Req]
    response: type[Res]
    safe: bool = True


@dataclass(frozen=True)
class Listing(Generic[Req, Res, Item]):
    """A paginated rpc and the field that holds the items of a page."""

    method: Method[Req, Res]
    items: Callable[[Res], Iterable[Item]]


class Connection:
    """Calls over one channel. Construct inside the event loop that will use it; close it there.

    `timeout` (seconds) is the deadline of every call that names none.
    """

    def __init__(
        self,
        address: str,
        *,
        timeout: float = 30.0,
        retry: Retry | None = None,
        tls: bool | Tls = False,
        clock: Clock | None = None,
    ) -> None:
        self.address = target_of(address)
        self.timeout = timeout
        self.retry = retry or Retry()
        self.clock: Clock = clock or SystemClock()
        self._channel = connect(self.address, certificates(address, tls))
        self._callables: dict[str, Any] = {}

    async def close(self) -> None:
        """Closes the channel; calls under way end with Cancelled."""
        await self._channel.close()

    async def call(
        self, method: Method[Req, Res], request: Req, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> Res:
        """Sends a unary call, again where that is safe, until `timeout` seconds have passed. Raises MeshError."""
        deadline = self.clock.time() + (self.timeout if timeout is None else timeout)
        attempt = 0
        while True:
            attempt += 1
            left = deadline - self.clock.time()
            try:
                return await self._once(method, request, left, metadata)
            except MeshError as error:
                left = deadline - self.clock.time()
                pause = self.retry.pause(error, attempt=attempt, safe=method.safe, left=left)
                if pause is None:
                    raise
            await self.clock.sleep(pause)

    async def _once(self, method: Method[Req, Res], request: Req, left: float, metadata: Metadata) -> Res:
        if left <= 0:
            raise DeadlineExceeded("the deadline has passed before the call was sent")
        with translated():
            call = self._callable("unary_unary", method)
            answer: Res = await call(request, timeout=_finite(left), metadata=(*metadata, *trace_context()))
            return answer

    async def pages(self, listing: Listing[Req, Res, Item], request: Req) -> AsyncIterator[Item]:
        """Yields the items of all pages; `request` carries the filters and is changed on the way."""
        while True:
            page = await self.call(listing.method, request)
            for item in listing.items(page):
                yield item
            token = page.next_page_token  # type: ignore[attr-defined]  # every List response has it
            if not token:
                return
            request.page_token = token  # type: ignore[attr-defined]

    def open_upstream(self, method: Method[Req, Res]) -> "grpc.aio.StreamUnaryCall[Req, Res]":
        """Opens a call that takes many requests and gives one answer; use it within `translated`."""
        call: grpc.aio.StreamUnaryCall[Req, Res] = self._callable("stream_unary", method)(metadata=trace_context())
        return call

    async def exchange(
        self, method: Method[Req, Res], request: Req, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> AsyncIterator[Res]:
        """Sends one request on a bidirectional stream and yields its answers. Cancels the call when left early.

        A method is of whatever arity its caller uses: this way headers, request and the end of it leave in one piece,
        and a server that stops just then has all of it or nothing.
        """
        left = _finite(self.timeout if timeout is None else timeout)
        with translated():
            call = self._callable("unary_stream", method)(request, timeout=left, metadata=(*metadata, *trace_context()))
            try:
                async for answer in call:
                    yield answer
            finally:
                call.cancel()

    def _callable(self, arity: str, method: Method[Any, Any]) -> Any:
        found = self._callables.get(method.path)
        if found is None:
            found = self._callables[method.path] = getattr(self._channel, arity)(
                method.path,
                request_serializer=method.request.SerializeToString,
                response_deserializer=method.response.FromString,
            )
        return found


def target_of(address: str) -> str:
    """Returns host:port of an address that may begin with `http://`, `grpc://` or, with TLS, `https://`, `grpcs://`.

    Of those with TLS a missing port is 443. Raises InvalidInput for anything else.
    gRPC's own forms for several gateways stay as they are: `dns:///name:port`, `ipv4:host:port,host:port`.
    """
    scheme, found, rest = address.rpartition("://")
    if found and scheme not in ("http", "grpc", "https", "grpcs", "dns", "unix"):
        raise InvalidInput(f"address: expected host:port, http(s):// or grpc(s)://, got {address!r}")
    if scheme in ("dns", "unix"):
        return address
    rest = rest.rstrip("/")
    if scheme in ("https", "grpcs") and ":" not in rest.rpartition("]")[2]:
        rest = f"{rest}:443"
    host, _, port = rest.rpartition(":")
    if not host or not port.isdigit():
        raise InvalidInput(f"address: expected host:port, e.g. 127.0.0.1:8080, got {address!r}")
    return rest


def trace_context() -> Metadata:
    """Returns W3C trace context of the current span as metadata; empty outside any span."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return tuple(carrier.items())


def _finite(seconds: float) -> float | None:
    return None if seconds == float("inf") else seconds


@contextmanager
def translated() -> Iterator[None]:
    """Turns what gRPC raises within it into errors of the tree."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        if error.details() == _BROKEN_OFF:
            raise NotReady("the connection broke, or the call was ended while it was sent") from error
        raise from_rpc_error(error) from error
    except grpc.aio.InternalError as error:
        raise NotReady("the connection broke") from error
    except grpc.aio.UsageError as error:
        raise FailedPrecondition("the client is closed") from error
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise  # the caller's doing
        raise Cancelled("the client was closed during the call") from None
