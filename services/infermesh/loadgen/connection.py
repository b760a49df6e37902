"""One HTTP/2 connection that unary gRPC calls go through, made for many calls at little cost.

What came for a call is not kept but for its status: a load test counts answers and looks at none.
"""

import asyncio
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, cast

from infermesh.mesh.http2 import frames
from infermesh.mesh.http2.frames import Frame, Kind, Setting

LATE: Final = "DEADLINE_EXCEEDED NO_ANSWER"
LOST: Final = "UNAVAILABLE CONNECTION_LOST"
AGAIN: Final = "UNAVAILABLE CONNECTION_CLOSING"
"""How a call ends that the server has not looked at, because it closes the connection: to be made on another one."""

_FEW: Final = 2**30  # octets received until the other side is told to go on
_REFUSED: Final = 7
_CANCEL: Final = struct.pack(">I", 8)
_SOON: Final = 0.002  # seconds until a refused call is made again

Ended = Callable[[bytes, bool], str]
"""Reads a call's last header block, knowing whether a message came before it, and returns the call's end."""


@dataclass(eq=False)
class _Call:
    block: bytes
    """The headers of the request."""
    body: bytes
    done: "asyncio.Future[str]"
    rest: memoryview
    """What of the body is not sent yet."""
    stream: int = 0
    window: int = 0
    answered: bool = False
    last: bool = False
    came: bytearray = field(default_factory=bytearray)

    def end(self, end: str) -> None:
        """Tells the caller, unless it has been told."""
        if not self.done.done():
            self.done.set_result(end)


class Connection(asyncio.Protocol):
    """Makes calls with one fixed header block, but for the deadline. Create it with `loop.create_connection`."""

    def __init__(self, headers: bytes, ended: Ended) -> None:
        self._headers, self._ended = headers, ended
        self._loop = asyncio.get_running_loop()
        self._calls: dict[int, _Call] = {}
        self._waiting: deque[_Call] = deque()  # for a free stream
        self._held: deque[_Call] = deque()  # for a window
        self._splitter = frames.Splitter()
        self._out: list[bytes] = []
        self._next = 1
        self._window = self._first_window = frames.FIRST_WINDOW
        self._most, self._frame_size = 100, frames.FRAME_SIZE
        self._unread = 0
        self.open = False
        """False before the connection is made, and from when it takes no more calls."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greets the server: it may send as much as it likes, and must not make header blocks depend on each other."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self.open = True
        wishes = (
            (Setting.HEADER_TABLE_SIZE, 0),
            (Setting.ENABLE_PUSH, 0),
            (Setting.INITIAL_WINDOW_SIZE, frames.WINDOW),
        )
        self._write(frames.PREFACE + frames.settings(wishes))
        self._write(frames.window_update(0, frames.WINDOW - frames.FIRST_WINDOW))

    async def call(self, body: bytes, timeout: float) -> str:
        """Sends a framed message; returns the call's end, LATE when `timeout` seconds have passed. Safe to cancel."""
        if not self.open:
            return AGAIN
        deadline = frames.literal(b"grpc-timeout", b"%dm" % min(99_999_999, max(1, round(timeout * 1e3))))
        call = _Call(self._headers + deadline, body, self._loop.create_future(), memoryview(body))
        self._waiting.append(call)
        self._begin()
        timer = self._loop.call_later(timeout, call.end, LATE)
        try:
            return await call.done
        finally:
            timer.cancel()
            if call.stream in self._calls:
                del self._calls[call.stream]
                self._write(frames.frame(Kind.RST_STREAM, 0, call.stream, _CANCEL))
                self._begin()

    def close(self) -> None:
        """Closes the connection; calls under way end."""
        self.open = False
        self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends all calls."""
        self.open = False
        for call in self._calls.values():
            call.end(LOST)
        for call in self._waiting:
            call.end(AGAIN)
        self._calls.clear()
        self._waiting.clear()

    def data_received(self, data: bytes) -> None:
        """Acts on frames; unknown ones are passed over."""
        try:
            for found in self._splitter.feed(data):
                act = _ACTS.get(found.kind)
                if act is not None:
                    act(self, found)
        except frames.ConnectionFault:  # no server does that; its calls are lost with the connection
            self.close()

    def _begin(self) -> None:
        """Begins calls that wait, as many as the server takes at once."""
        while self._waiting and self.open and len(self._calls) < self._most:
            call = self._waiting.popleft()
            if call.done.done():
                continue
            call.stream, call.window = self._next, self._first_window
            self._next += 2
            self._calls[call.stream] = call
            self._write(frames.frame(Kind.HEADERS, frames.END_HEADERS, call.stream, call.block))
            self._send(call)

    def _send(self, call: _Call) -> None:
        """Sends what the windows allow of a request; the rest follows when they open."""
        while call.rest and call.stream in self._calls:
            size = min(len(call.rest), self._frame_size, self._window, call.window)
            if size <= 0:
                self._held.append(call)
                return
            flags = frames.END_STREAM if size == len(call.rest) else 0
            self._write(frames.frame(Kind.DATA, flags, call.stream, bytes(call.rest[:size])))
            call.rest = call.rest[size:]
            call.window -= size
            self._window -= size

    def _release(self) -> None:
        """Goes on with the requests that a window held."""
        held, self._held = self._held, deque()
        for call in held:
            self._send(call)

    def _write(self, octets: bytes) -> None:
        """Writes at the end of this turn of the loop, together with what else there is by then."""
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(octets)

    def _flush(self) -> None:
        out, self._out = self._out, []
        if not self._transport.is_closing():
            self._transport.write(b"".join(out))

    def _data(self, found: Frame) -> None:
        self._unread += len(found.payload)
        if self._unread > _FEW:
            self._write(frames.window_update(0, self._unread))
            self._unread = 0
        call = self._calls.get(found.stream)
        if call is None:
            return
        call.answered = True
        if found.flags & frames.END_STREAM:  # without a status
            self._finish(call, self._ended(b"", True))

    def _block(self, found: Frame) -> None:
        """Collects the last header block of a call; the first says nothing that is of use here."""
        call = self._calls.get(found.stream)
        if call is None:
            return
        if found.kind == Kind.HEADERS:
            call.last = bool(found.flags & frames.END_STREAM)
            call.came.clear()
        call.came += frames.content(found)
        if found.flags & frames.END_HEADERS and call.last:
            self._finish(call, self._ended(bytes(call.came), call.answered))

    def _reset(self, found: Frame) -> None:
        """A call that was refused has not been looked at: the server had not yet counted others as ended."""
        call = self._calls.get(found.stream)
        if call is None:
            return
        code = frames.number(found.payload, "RST_STREAM")
        if code == _REFUSED and self.open:
            del self._calls[call.stream]
            self._loop.call_later(_SOON, self._again, call)
        else:
            self._finish(call, f"INTERNAL RESET_{code}")

    def _again(self, call: _Call) -> None:
        if not self.open:
            call.end(AGAIN)
            return
        call.rest = memoryview(call.body)
        self._waiting.append(call)
        self._begin()

    def _finish(self, call: _Call, end: str) -> None:
        del self._calls[call.stream]
        call.end(end)
        self._begin()
        if not (self.open or self._calls):
            self._transport.close()

    def _settings(self, found: Frame) -> None:
        if found.flags & frames.ACK:
            return
        values = frames.read_settings(found.payload)
        self._most = values.get(Setting.MAX_CONCURRENT_STREAMS, self._most)
        self._frame_size = values.get(Setting.MAX_FRAME_SIZE, self._frame_size)
        grown = values.get(Setting.INITIAL_WINDOW_SIZE, self._first_window) - self._first_window
        self._first_window += grown
        for call in self._calls.values():
            call.window += grown
        self._write(frames.frame(Kind.SETTINGS, frames.ACK, 0, b""))
        self._release()
        self._begin()

    def _ping(self, found: Frame) -> None:
        if not found.flags & frames.ACK:
            self._write(frames.frame(Kind.PING, frames.ACK, 0, bytes(found.payload)))

    def _go_away(self, found: Frame) -> None:
        """The server closes: what it has begun it will finish, the rest is for another connection."""
        last = frames.number(found.payload, "GOAWAY")
        self.open = False
        waiting, self._waiting = self._waiting, deque()
        unseen = [self._calls.pop(stream) for stream in [*self._calls] if stream > last & 0x7FFFFFFF]
        for call in (*waiting, *unseen):
            call.end(AGAIN)
        if not self._calls:
            self._transport.close()

    def _update(self, found: Frame) -> None:
        grown = frames.number(found.payload, "WINDOW_UPDATE")
        if found.stream == 0:
            self._window += grown
        elif found.stream in self._calls:
            self._calls[found.stream].window += grown
        self._release()


_ACTS: Final[dict[int, Callable[[Connection, Frame], None]]] = {
    Kind.DATA: Connection._data,
    Kind.HEADERS: Connection._block,
    Kind.CONTINUATION: Connection._block,
    Kind.RST_STREAM: Connection._reset,
    Kind.SETTINGS: Connection._settings,
    Kind.PING: Connection._ping,
    Kind.GOAWAY: Connection._go_away,
    Kind.WINDOW_UPDATE: Connection._update,
}
