"""What both ends say on a stream: messages, as the windows allow, and the end. Base of what a connection carries."""

import asyncio
import struct
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from infermesh.mesh.http2 import frames
from infermesh.mesh.http2.fields import Field
from infermesh.mesh.http2.frames import Code, Kind
from infermesh.mesh.wire import Bytes

Fields = Mapping[bytes, bytes]

PREFIX: Final = struct.Struct(">BI")
"""What stands before a message: whether it is compressed, and its size."""
_AT_ONCE: Final = 256 << 10
"""Bytes after which the system is asked whether it takes more."""
_JOINED: Final = 16 << 10
"""Bytes up to which a copy is cheaper than a second piece."""


class Line(Protocol):
    """The connection that a stream is on."""

    window: int
    frame_size: int
    paused: bool

    def write(self, *parts: Bytes) -> None:
        """Sends bytes, one after the other."""
        ...

    def waits(self, change: int) -> None:
        """So many bytes more, or less, wait to be sent."""
        ...

    def hold(self, stream: "Outgoing") -> None:
        """Has `Outgoing.go_on` called as soon as more may be sent."""
        ...

    def forget(self, stream: "Outgoing") -> None:
        """The stream is over."""
        ...


class Outgoing(ABC):
    """A stream. Belongs to the event loop of its connection; nothing in it blocks.

    What is sent leaves in order: messages, as far as the other end has room for them, then what `finish` sends. What
    the other end says is for whoever derives from this.
    """

    __slots__ = (
        "_drained",
        "_ending",
        "_final",
        "_heard_all",
        "_line",
        "_out",
        "_said_all",
        "moved",
        "number",
        "open",
        "waiting",
        "window",
    )

    def __init__(self, line: Line, number: int, window: int) -> None:
        self.number = number
        self.window = window
        """Bytes that the other end still takes."""
        self.open = True
        """False once nothing can be sent any more."""
        self.waiting = 0
        """Bytes that wait to be sent."""
        self.moved = 0
        """Bytes that had to wait, and were sent."""
        self._line = line
        self._out: deque[memoryview] | None = None  # most streams need none
        self._ending = b""
        self._final = False  # what ends this side ends the call
        self._said_all = self._heard_all = False
        self._drained: asyncio.Future[None] | None = None

    # -- out -----------------------------------------------------------------------------------------------------------

    def send_headers(self, fields: Sequence[Field]) -> None:
        """Sends headers; before any message."""
        self._line.write(block(self.number, fields, 0))

    def send(self, *parts: Bytes) -> None:
        """Sends a message, given in pieces; does nothing once the stream is over."""
        if self.open:
            self.pour(PREFIX.pack(0, sum(map(len, parts))), *parts)

    def pour(self, *parts: Bytes) -> None:
        """Sends bytes; the stream must be open."""
        line, size = self._line, len(parts[0]) if len(parts) == 1 else sum(map(len, parts))
        fits = size <= self.window and size <= line.window and size <= line.frame_size
        if fits and not (self._out or line.paused):
            self.window -= size
            line.window -= size
            head = frames.head(frames.DATA, 0, self.number, size)
            if size <= _JOINED:
                line.write(b"".join((head, *parts)))
            else:
                line.write(head, *parts)
        else:
            if self._out is None:
                self._out = deque()
            self._out += (memoryview(part) for part in parts if len(part))
            self._wait(size)
            self.go_on()

    def finish(self, fields: Sequence[Field] = ()) -> None:
        """Ends this side: that of a request, or with trailers that of a response, and with it the call."""
        if self.open:
            self.open, self._final = False, bool(fields)
            end = frames.END_STREAM
            self._ending = block(self.number, fields, end) if fields else frames.frame(Kind.DATA, end, self.number)
            self.go_on()

    def reset(self, code: Code = Code.CANCEL) -> None:
        """Ends the stream at once; nothing is heard of it any more. Idempotent."""
        if self._line is not _GONE:
            self._line.write(frames.rst_stream(self.number, code))
            self.part()

    @property
    def congested(self) -> bool:
        """Tells whether something waits to be sent."""
        return bool(self._out) or self._line.paused

    def drained(self) -> "asyncio.Future[None]":
        """Returns a future that is done once nothing waits to be sent any more, or the stream is over."""
        drained = self._drained
        if drained is None:
            drained = asyncio.get_running_loop().create_future()
            if self.congested:
                self._drained = drained
                self._line.hold(self)
            else:
                drained.set_result(None)
        return drained

    def go_on(self) -> None:
        """Sends what waits, as far as there is room."""
        line, out = self._line, self._out
        while out and not line.paused and self.window > 0 and line.window > 0:
            self._leave_some(out)
        if out:
            line.hold(self)
        elif self._ending:
            ending, self._ending = self._ending, b""
            line.write(ending)
            self._said_all = True
            if self._final and not self._heard_all:
                self.reset(Code.NO_ERROR)
            self.look_over()
        if self._drained is not None:
            if self.congested:  # perhaps only because the last piece was more than the system takes
                line.hold(self)
            else:
                self._release()

    def _leave_some(self, out: deque[memoryview]) -> None:
        """Sends what waits in one go, as far as there is room, and no more than the system can take without a stop."""
        line, parts = self._line, list[Bytes]()
        left, moved = min(self.window, line.window, _AT_ONCE), 0
        while out and moved < left:
            room = min(left - moved, line.frame_size)
            size, frame = 0, list[Bytes]()
            while out and size < room:
                piece = out.popleft()
                if len(piece) > room - size:
                    out.appendleft(piece[room - size :])
                    piece = piece[: room - size]
                frame.append(piece)
                size += len(piece)
            parts += (frames.head(Kind.DATA, 0, self.number, size), *frame)
            moved += size
        self.window -= moved
        line.window -= moved
        self.moved += moved
        self._wait(-moved)
        line.write(*parts)

    def _wait(self, change: int) -> None:
        self.waiting += change
        self._line.waits(change)

    def _release(self) -> None:
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)

    # -- in ------------------------------------------------------------------------------------------------------------

    @abstractmethod
    def take(self, payload: Bytes, size: int, end: bool) -> None:
        """Takes what a DATA frame of `size` bytes holds."""

    @abstractmethod
    def take_headers(self, fields: Fields, end: bool) -> None:
        """Takes a block of headers."""

    @abstractmethod
    def take_reset(self, code: int) -> None:
        """Takes the other end's word that it wants no more of the stream."""

    @abstractmethod
    def lose(self, why: str) -> None:
        """Has the stream end, through no doing of ours."""

    def look_over(self) -> None:
        """Lets the stream go once both ends have said all."""
        if self._heard_all and self._said_all:
            self.part()

    def part(self) -> None:
        """Ends what this end has to do with the stream."""
        line, self._line = self._line, _GONE
        self.open = False
        if self._out:
            self._out.clear()
            line.waits(-self.waiting)
            self.waiting = 0
        line.forget(self)
        self._release()


def block(number: int, fields: Sequence[Field], flags: int) -> bytes:
    """Returns the frame of a block of headers."""
    return frames.frame(
        Kind.HEADERS, flags | frames.END_HEADERS, number, b"".join(frames.literal(*field) for field in fields)
    )


class _Gone:
    """The connection of a stream that is over: takes everything and does nothing."""

    window = frame_size = 0
    paused = False

    def write(self, *parts: Bytes) -> None: ...
    def waits(self, change: int) -> None: ...
    def hold(self, stream: Outgoing) -> None: ...
    def forget(self, stream: Outgoing) -> None: ...


_GONE: Final = _Gone()
