"""One call on the gRPC port."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from infermesh.errors import Cancelled, InvalidInput
from infermesh.gateway.door.body import WINDOW, Body
from infermesh.gateway.framing import failure, frames
from infermesh.gateway.framing.exchange import Scope, Send
from infermesh.gateway.framing.inbound import Event, Receive
from infermesh.gateway.framing.metadata import parse_timeout
from infermesh.gateway.framing.methods import Method, Running
from infermesh.gateway.framing.vigil import Vigil
from infermesh.mesh.http2.fields import Headers
from infermesh.mesh.http2.frames import END_HEADERS, END_STREAM, Code, Kind, head, literal, rst_stream
from infermesh.mesh.http2.outgoing import PREFIX, Fields, Line, Outgoing
from infermesh.mesh.http2.server import RESPONSE
from infermesh.mesh.messages import HEADER
from infermesh.mesh.wire import Bytes

_FIRST: Final = b"".join(literal(*field) for field in RESPONSE)
_LAST: Final = literal(b"grpc-status", b"0")

Serve = Callable[[Scope, Receive, Send, Method | None, Headers], Awaitable[None]]
"""Runs a call the long way."""


class Wire(Line, Protocol):
    """The connection of a call."""

    def consumed(self, size: int) -> None:
        """So many bytes of what came are no longer kept."""
        ...

    def given_up(self, began: float) -> None:
        """The caller has cancelled a call that began then."""
        ...


@dataclass(frozen=True)
class Desk:
    """What all calls of a port share."""

    serve: Serve
    largest: int
    """Bytes of a request."""
    loop: asyncio.AbstractEventLoop
    settled: "asyncio.Future[None]"
    """Is done: what `send` gives where nothing need be waited for."""
    running: "set[asyncio.Task[None]]"
    """Calls on the long way."""
    vigil: Vigil


class DoorCall(Outgoing):
    """A call. It is the `Reply` of its method's `direct` handler, where the request comes in one piece: nothing is
    awaited then, from the first frame to the last. All else goes the long way, through an `Exchange`."""

    __slots__ = (
        "_body",
        "_desk",
        "_direct",
        "_method",
        "_running",
        "_wire",
        "began",
        "cost",
        "deadline",
        "known",
        "slot",
    )

    def __init__(
        self, desk: Desk, wire: Wire, number: int, window: int, known: Headers, method: Method | None, began: float
    ) -> None:
        super().__init__(wire, number, window)
        self.known = known
        """The request's headers, undecoded."""
        self.deadline: float | None = None
        """When the call is too late, in seconds of the event loop's clock."""
        self.began = began
        """When it began, by the same clock."""
        self.cost = 0
        """Bytes that it takes beside its body and its answer."""
        self.slot: dict[Any, None] | None = None
        self._desk, self._wire, self._method = desk, wire, method
        self._running: Running | None = None
        self._body: Body | None = None
        self._direct = True  # until it goes the long way

    @property
    def weight(self) -> int:
        """Bytes that are kept for it."""
        return self.cost + self.waiting + (self._body.unread if self._body is not None else 0)

    # -- the request ---------------------------------------------------------------------------------------------------

    def begin(self, end: bool) -> bool:
        """Begins. Returns whether the request's one message is still to come: then the call is fresh."""
        method, known = self._method, self.known
        if end or method is None or method.direct is None or b"grpc-encoding" in known:
            self._heard_all = end
            body = self._body = Body(self._wire, self.number, self._desk.loop)
            if end:
                body.take(b"", 0, True)
            self._take_the_long_way(body)
            return False
        timeout = known.get(b"grpc-timeout")
        if timeout is not None:
            try:
                self.deadline = self.began + parse_timeout(timeout)
            except InvalidInput as error:
                self.fail(error)
                return False
        return True

    def watch(self) -> None:
        """Has a call that is still fresh go the long way soon: its sender may be slow, or stuck."""
        if self.open and self._direct and not self._heard_all:
            self._desk.vigil.begin(self)

    def linger(self) -> None:
        """Soon is now."""
        body = self._body = self._body or Body(self._wire, self.number, self._desk.loop)
        self._take_the_long_way(body)

    def take(self, payload: Bytes, size: int, end: bool) -> None:
        """Takes what a DATA frame of `size` bytes holds."""
        if self._heard_all:  # more than the sender had announced
            self._wire.consumed(size)
            return
        self._heard_all = end
        body = self._body
        if body is None:
            message = frames.whole(bytes(payload), self._desk.largest) if end else None
            if message is not None:
                self._wire.consumed(size)
                self._do(message)
                return
            body = self._body = Body(self._wire, self.number, self._desk.loop)
        body.take(payload, size, end)
        if self._direct:
            self._gather(body, end)

    def _gather(self, body: Body, end: bool) -> None:
        """Waits for the rest of a message that the window has room for; all else goes the long way."""
        first = body.first
        if len(first) < HEADER or HEADER + int.from_bytes(first[1:HEADER], "big") > WINDOW:
            self._take_the_long_way(body)
        elif end:
            message = frames.whole(body.join(), self._desk.largest)
            if message is None:
                self._take_the_long_way(body)
            else:
                self._body = None
                body.close()
                self._do(message)

    def take_headers(self, fields: Fields, end: bool) -> None:
        """Takes what may come at the end of a request: fields that mean nothing to gRPC."""
        if end:
            self.take(b"", 0, True)

    def _do(self, message: bytes) -> None:
        if self.slot is not None:
            self._leave_vigil()
        try:
            running = self._method.direct(message, self)  # type: ignore[union-attr, misc]
        except Exception as error:
            self.fail(error)
            return
        if self.open:
            self._running = running

    def _take_the_long_way(self, body: Body) -> None:
        self._leave_vigil()
        self._direct = False
        desk = self._desk
        path = self.known.get(b":path", b"").decode("latin-1")
        headers = [pair for pair in self.known.pairs if not pair[0].startswith(b":")]
        scope: Scope = {"type": "http", "method": "POST", "http_version": "2", "path": path, "headers": headers}
        task = desk.loop.create_task(_run(desk.serve(scope, body.receive, self._say, self._method, self.known)))
        desk.running.add(task)
        task.add_done_callback(desk.running.discard)

    def _leave_vigil(self) -> None:
        slot, self.slot = self.slot, None
        if slot is not None:
            slot.pop(self, None)

    # -- the answer ----------------------------------------------------------------------------------------------------

    def answer(self, message: Bytes) -> None:
        """Ends the call with its response."""
        if not self.open:
            return
        line, size, number = self._line, len(message) + HEADER, self.number
        if size > self.window or size > line.window or size > line.frame_size or line.paused:
            self.send_headers(RESPONSE)
            self.send(message)
            self.finish(((b"grpc-status", b"0"),))
            return
        line.window -= size
        first = head(Kind.HEADERS, END_HEADERS, number, len(_FIRST))
        data = head(Kind.DATA, 0, number, size)
        last = head(Kind.HEADERS, END_HEADERS | END_STREAM, number, len(_LAST))
        line.write(b"".join((first, _FIRST, data, PREFIX.pack(0, len(message)), message, last, _LAST)))
        self.part()

    def fail(self, error: Exception) -> None:
        """Ends the call with an error."""
        path = self.known.get(b":path", b"").decode("latin-1")
        self.finish((*RESPONSE, *failure.ending(error, path, ())))

    def _say(self, event: Event) -> "asyncio.Future[None]":
        """Sends what an ASGI event says; what it gives is done when the caller has room for more, or fails if it has
        gone: that may be all that tells a handler which does not read."""
        if not self.open:
            return _gone(self._desk.loop)
        kind = event["type"]
        if kind == "http.response.body":
            if event["body"]:
                self.pour(event["body"])
                if event["more_body"] and self.congested:
                    return self.drained()
        elif kind == "http.response.start":
            self.send_headers(((b":status", b"%d" % event["status"]), *event["headers"]))
        else:
            self.finish(event["headers"])
        return self._desk.settled

    # -- its end -------------------------------------------------------------------------------------------------------

    def take_reset(self, code: int) -> None:
        """Takes the caller's word that it wants no answer any more."""
        self._wire.given_up(self.began)
        self.lose("the caller has cancelled the call")

    def cut(self, code: Code) -> None:
        """Ends a call whose caller takes nothing of its answer, or too much of our memory."""
        self._wire.write(rst_stream(self.number, code))
        self.lose("its caller takes nothing of the answer")

    def lose(self, why: str) -> None:
        """Has the call end, through no doing of ours."""
        running, body = self._running, self._body
        if body is not None:
            body.leave()
        self.part()
        if running is not None:
            running.cancel()

    def part(self) -> None:
        """Ends what this end has to do with the call."""
        self._running = None  # it holds us, and what holds each other is only freed by the collector
        if self.slot is not None:
            self._leave_vigil()
        body, self._body = self._body, None
        if body is not None:
            body.close()
        super().part()


async def _run(serving: Awaitable[None]) -> None:
    with contextlib.suppress(Cancelled):  # nobody is there to be told
        await serving


def _gone(loop: asyncio.AbstractEventLoop) -> "asyncio.Future[None]":
    gone: asyncio.Future[None] = loop.create_future()
    gone.set_exception(Cancelled("the caller went away"))
    gone.exception()  # it need not be awaited
    return gone
