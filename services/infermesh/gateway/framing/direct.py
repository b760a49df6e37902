"""The short way of a unary gRPC call: no task and no future of its own, from the first header to the last trailer.

The front door takes hundreds of microseconds of CPU to start and wake tasks that do nothing but wait. A unary call
whose request comes in one piece waits twice only, for its request and for its result, and both are plain callbacks
here. Whatever is out of the ordinary (a request in pieces, a compressed one, a slow sender) goes on in an `Exchange`.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Generator, Mapping
from typing import Any, Final

from infermesh.errors import InvalidInput
from infermesh.gateway.framing import failure, frames
from infermesh.gateway.framing.exchange import NOTHING, OK_TRAILERS, Exchange, Scope, Send
from infermesh.gateway.framing.guard import Guard
from infermesh.gateway.framing.inbound import Event, Receive, asked, watch
from infermesh.gateway.framing.metadata import parse_timeout
from infermesh.gateway.framing.methods import Method, Running
from infermesh.gateway.framing.vigil import Vigil
from infermesh.mesh.wire import Bytes

# what every call of this kind is answered with: made once
_START: Final[Event] = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/grpc")],
    "trailers": True,
}


class Direct:
    """One unary call; the `Reply` of its method's `direct` handler. Never raises; `begin` is called once."""

    __slots__ = (
        "_asked",
        "_guard",
        "_life",
        "_method",
        "_receive",
        "_running",
        "_scope",
        "_send",
        "_vigil",
        "_waiter",
        "deadline",
        "known",
        "slot",
    )

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        method: Method,
        known: Mapping[bytes, bytes],
        guard: Guard,
        vigil: Vigil,
    ) -> None:
        self.known = known
        """The request's headers as a mapping, undecoded."""
        self.deadline: float | None = None
        """When the call is too late, in seconds of the event loop's clock."""
        self.slot: dict[Any, None] | None = None
        self._scope = scope
        self._receive = receive
        self._send = send
        self._method = method
        self._guard = guard
        self._life: asyncio.Future[None] | None = None
        self._vigil = vigil
        self._asked: asyncio.Future[Event] | None = None
        self._running: Running | None = None
        self._waiter: asyncio.Future[None] | None = None

    def begin(self) -> "Direct":
        """Asks for the request."""
        timeout = self.known.get(b"grpc-timeout")
        if timeout is not None:
            try:
                self.deadline = self._vigil.now() + parse_timeout(timeout)
            except InvalidInput as error:
                self.fail(error)
                return self
        self._vigil.begin(self)
        self._asked = future = asked(self._receive)
        future.add_done_callback(self._arrived)
        return self

    def add_done_callback(self, callback: Callable[[Any], object]) -> None:
        """Takes what a server wants to be told when its application fails. This one never does."""

    def __await__(self) -> Generator[Any, None, None]:
        """Waits for the end of the call, for callers that run an application as a coroutine."""
        if self.slot is not None:
            self._waiter = asyncio.get_running_loop().create_future()
            yield from self._waiter

    def _arrived(self, future: "asyncio.Future[Event]") -> None:
        if self._asked is not future:  # it took the long way while the loop was about to tell of this
            return
        try:
            event = future.result()
            chunk: bytes = b"" if event["more_body"] else event["body"]
        except (Exception, asyncio.CancelledError):  # what the caller's going away has instead of a body
            self._over()
            return
        message = frames.whole(chunk, self._guard.limits.message)
        if message is None:
            self._take_the_long_way()
        else:
            self._asked = None
            try:
                running = self._method.direct(message, self)  # type: ignore[misc]
            except Exception as error:
                self.fail(error)
                return
            if self.slot is not None:
                self._running = running

    # -- the answer ----------------------------------------------------------------------------------------------------

    def answer(self, message: Bytes) -> None:
        """Ends the call with its response. What `send` gives need not be awaited: only bodies that go on make wait."""
        self._end(frames.encode(message), OK_TRAILERS)

    def fail(self, error: Exception) -> None:
        """Ends the call with an error."""
        self._end(b"", {**OK_TRAILERS, "headers": failure.ending(error, self._scope["path"], ())})

    def _end(self, body: bytes, trailers: Event) -> None:
        send = self._send
        if self._life is None:
            send(_START)
        send({"type": "http.response.body", "body": body, "more_body": False})
        send(trailers)
        self._over()

    def _over(self) -> None:
        slot, self.slot = self.slot, None
        self._running = None  # it holds us, and what holds each other is only freed by the collector
        if slot is not None:
            slot.pop(self, None)
            self._guard.alive.discard(self)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # -- what takes longer ---------------------------------------------------------------------------------------------

    def linger(self) -> None:
        """The call has been here for a moment: from now on it is worth knowing whether its caller still waits."""
        if self._asked is not None:
            self._take_the_long_way()
        else:
            self._guard.alive.add(self)
            watch(self._receive, self._gone, lambda: self.slot is None)

    def show_life(self) -> None:
        """Sends a chunk of nothing, unless the caller does not even take what went before; see `Exchange`."""
        if self._life is None:
            self._send(_START)
        if self._life is None or self._life.done():
            self._life = asyncio.ensure_future(_settled(self._send(NOTHING)))  # sent now, before any answer

    def _gone(self) -> None:
        running = self._running
        self._over()
        if running is not None:
            running.cancel()

    def _take_the_long_way(self) -> None:
        first, self._asked = self._asked, None
        assert first is not None
        assert self.slot is not None
        self.slot.pop(self, None)  # the long way is taken once: the body's chunks are for one reader
        first.remove_done_callback(self._arrived)
        again = _Again(first, self._receive)
        exchange = Exchange(self._scope, again, self._send, self._method, self.known, self._guard)
        task = asyncio.get_running_loop().create_task(exchange.run())
        task.add_done_callback(lambda _: self._over())


async def _settled(sent: Awaitable[None]) -> None:
    with contextlib.suppress(Exception):  # a caller who went away is noticed elsewhere
        await sent


class _Again:
    """A `receive` that gives what was asked for already first."""

    def __init__(self, first: "asyncio.Future[Event]", receive: Receive) -> None:
        self._first: asyncio.Future[Event] | None = first
        self._receive = receive

    def __call__(self) -> Any:
        first, self._first = self._first, None
        return first if first is not None else self._receive()
