"""What can be mounted: a gRPC method's arity and its handler. Front ends build these; `exchange` runs them.

A handler takes bytes (or an iterator of them) and a `Context`, and gives bytes (or an iterator). `unary`, … wrap one
that speaks messages.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from google.protobuf.message import DecodeError, Message

from infermesh.errors import InvalidInput
from infermesh.gateway.framing import metadata
from infermesh.gateway.framing.metadata import Header, Metadata
from infermesh.gateway.framing.outlet import Outlet
from infermesh.mesh.wire import Bytes

Rq = TypeVar("Rq", bound=Message)
Rs = TypeVar("Rs", bound=Message)


class Context:
    """What a handler may know of its call, and add to the answer."""

    __slots__ = ("_headers", "_start", "deadline", "initial", "known", "path", "trailing")

    def __init__(
        self,
        path: str,
        headers: Sequence[Header],
        known: Mapping[bytes, bytes],
        start: Callable[[], Awaitable[None]] | None = None,
        deadline: float | None = None,
    ) -> None:
        self.path = path
        self.known = known
        """The headers as a mapping, undecoded."""
        self.deadline = deadline
        """When the call is too late, in seconds of the event loop's clock."""
        self.initial: Metadata = ()
        """Goes out before the first message; set it before."""
        self.trailing: Metadata = ()
        """Goes out at the end, unless the call fails with an RpcFailure, which brings its own."""
        self._headers = headers
        self._start = start

    def metadata(self) -> list[tuple[str, str | bytes]]:
        """Returns what the caller attached. Raises InvalidInput if a binary value is not base64."""
        return metadata.decode(self._headers)

    def header(self, name: bytes) -> str:
        """Returns the text of one header, or an empty one."""
        return self.known.get(name, b"").decode("latin-1")

    def time_left(self) -> float | None:
        """Returns the seconds until the deadline, or None without one."""
        return None if self.deadline is None else self.deadline - asyncio.get_running_loop().time()

    async def start(self) -> None:
        """Sends the initial metadata now instead of with the first message. Idempotent."""
        if self._start is not None:
            await self._start()


class Handler(Protocol):
    """Runs one call; see the arities in `Method`."""

    def __call__(self, request: Any, context: Context, /) -> Any:
        """Returns an awaitable of the response, an async iterator of responses, or what is `Pushing` them."""
        ...


class Pushing(Protocol):
    """What a handler that pushes gives: the answer to one call."""

    async def push(self, outlet: Outlet) -> None:
        """Has `outlet` pull the responses; returns when all there will be can be pulled. Cancel-safe.

        Raises what the call shall fail with, after the responses that came before.
        """
        ...


class Reply(Protocol):
    """Where the result of a direct call goes; exactly one of its methods is called, once."""

    deadline: float | None

    @property
    def known(self) -> Mapping[bytes, bytes]:
        """The request's headers, undecoded."""
        ...

    def answer(self, message: Bytes, /) -> None:
        """Ends the call with its response. Never raises."""
        ...

    def fail(self, error: Exception, /) -> None:
        """Ends the call with an error. Never raises."""
        ...


class Running(Protocol):
    """A direct call under way."""

    def cancel(self) -> object:
        """The caller has gone: nothing is to be answered any more. Never raises."""
        ...


class DirectHandler(Protocol):
    """Begins one unary call, and returns at once."""

    def __call__(self, request: bytes, reply: Reply, /) -> Running:
        """Begins the call, whose result `reply` gets, now or later. Raises what the call shall fail with."""
        ...


@dataclass(frozen=True, slots=True)
class Method:
    """A gRPC method: its handler and which sides stream. The handler takes and gives bytes.

    A `standing` call never ends by itself (a watch): it must not hold up a drain. `keeps_deadline` says that its
    handler ends on time, so that no second timer is needed. What the handler of one that `pushes` gives is `Pushing`
    its responses. `direct` is the handler's other form, for calls that come
    in one piece: the same, without a task.
    """

    handler: Handler
    client_stream: bool = False
    server_stream: bool = False
    standing: bool = False
    keeps_deadline: bool = False
    pushes: bool = False
    direct: DirectHandler | None = None


Methods = Mapping[str, Method]
"""gRPC path, `/package.Service/Method`, to what runs there."""


def parse(request: type[Rq], data: bytes) -> Rq:
    """Returns the message of bytes. Raises InvalidInput."""
    try:
        return request.FromString(data)
    except DecodeError as error:
        name = request.DESCRIPTOR.name
        raise InvalidInput(f"request: the bytes are not a {name} message ({len(data)} bytes)") from error


def unary(request: type[Rq], handler: Callable[[Rq, Context], Awaitable[Message]]) -> Method:
    """Returns the method of a handler that takes one message and gives one."""

    async def call(data: bytes, context: Context) -> bytes:
        return (await handler(parse(request, data), context)).SerializeToString()

    return Method(call)


def server_stream(
    request: type[Rq], handler: Callable[[Rq, Context], AsyncIterator[Message]], *, standing: bool = False
) -> Method:
    """Returns the method of a handler that takes one message and gives many."""

    async def call(data: bytes, context: Context) -> AsyncIterator[bytes]:
        async for response in handler(parse(request, data), context):
            yield response.SerializeToString()

    return Method(call, server_stream=True, standing=standing)


def client_stream(request: type[Rq], handler: Callable[[AsyncIterator[Rq], Context], Awaitable[Message]]) -> Method:
    """Returns the method of a handler that takes many messages and gives one."""

    async def call(stream: AsyncIterator[bytes], context: Context) -> bytes:
        return (await handler(_parsed(request, stream), context)).SerializeToString()

    return Method(call, client_stream=True)


def bidi(
    request: type[Rq],
    handler: Callable[[AsyncIterator[Rq], Context], AsyncIterator[Message]],
    *,
    standing: bool = False,
) -> Method:
    """Returns the method of a handler that takes many messages and gives many."""

    async def call(stream: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        async for response in handler(_parsed(request, stream), context):
            yield response.SerializeToString()

    return Method(call, client_stream=True, server_stream=True, standing=standing)


async def _parsed(request: type[Rq], stream: AsyncIterator[bytes]) -> AsyncIterator[Rq]:
    async for data in stream:
        yield parse(request, data)
