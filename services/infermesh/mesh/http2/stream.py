"""One gRPC call on a connection, seen from either end: messages out as the windows allow, messages in as they come."""

import asyncio
import struct
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from infermesh.errors import MeshError
from infermesh.mesh.http2 import frames
from infermesh.mesh.http2.frames import Code, Kind
from infermesh.mesh.messages import HEADER, Decoder
from infermesh.mesh.wire import Bytes

Field = tuple[bytes, bytes]
Fields = Mapping[bytes, bytes]

LARGEST: Final = 2**31 - 1
"""Bytes of a message: what protobuf can write."""
_PREFIX: Final = struct.Struct(">BI")
_JOINED: Final = 16 << 10
"""Bytes up to which a copy is cheaper than a second piece."""
_FEW: Final = 2**30
"""Bytes received until the other end is told to go on."""


class Events(Protocol):
    """Hears what the other end of a stream does. None of these raises."""

    def headers(self, fields: Fields) -> None:
        """A block of headers has come: a response's, or those at its end. Of names that come twice the last counts."""
        ...

    def message(self, data: bytes) -> None:
        """A message has come."""
        ...

    def ended(self) -> None:
        """The other end sends nothing more."""
        ...

    def lost(self, why: str) -> None:
        """The stream is no more, through no doing of ours. Nothing else is heard of it."""
        ...


class Line(Protocol):
    """The connection that a stream is on."""

    window: int
    frame_size: int
    paused: bool

    def write(self, *parts: Bytes) -> None:
        """Sends bytes, one after the other."""
        ...

    def hold(self, stream: "Stream") -> None:
        """Has `Stream.go_on` called as soon as more may be sent."""
        ...

    def forget(self, stream: "Stream") -> None:
        """The stream is over."""
        ...


class Stream:
    """A call. Belongs to the event loop of its connection; nothing in it blocks.

    What is sent leaves in order: messages, as far as the other end has room for them, then what `finish` sends.
    """

    __slots__ = (
        "_decoder",
        "_drained",
        "_ending",
        "_final",
        "_heard_all",
        "_line",
        "_out",
        "_said_all",
        "_unread",
        "events",
        "number",
        "open",
        "window",
    )

    def __init__(self, line: Line, number: int, window: int) -> None:
        self.number = number
        self.window = window
        """Bytes that the other end still takes."""
        self.open = True
        """False once nothing can be sent any more."""
        self.events: Events = _Nobody()
        self._line = line
        self._decoder = Decoder(LARGEST)
        self._out: deque[memoryview] = deque()
        self._ending = b""
        self._final = False  # what ends this side ends the call
        self._said_all = self._heard_all = False
        self._drained: asyncio.Future[None] | None = None
        self._unread = 0

    # -- out -----------------------------------------------------------------------------------------------------------

    def send_headers(self, fields: Sequence[Field]) -> None:
        """Sends headers; before any message."""
        self._line.write(_block(self.number, fields, 0))

    def send(self, *parts: Bytes) -> None:
        """Sends a message, given in pieces; does nothing once the stream is over."""
        if not self.open:
            return
        size = sum(map(len, parts))
        prefix, whole, line = _PREFIX.pack(0, size), size + HEADER, self._line
        if not (self._out or line.paused) and whole <= min(self.window, line.window, line.frame_size):
            self._leave(whole, prefix, *parts)
        else:
            self._out += (memoryview(part) for part in (prefix, *parts) if len(part))
            self.go_on()

    def finish(self, fields: Sequence[Field] = ()) -> None:
        """Ends this side: that of a request, or with trailers that of a response, and with it the call."""
        if self.open:
            self.open, self._final = False, bool(fields)
            end = frames.END_STREAM
            self._ending = _block(self.number, fields, end) if fields else frames.frame(Kind.DATA, end, self.number)
            self.go_on()

    def reset(self, code: Code = Code.CANCEL) -> None:
        """Ends the stream at once; nothing is heard of it any more. Idempotent."""
        if self._line is not _GONE:
            self._line.write(frames.rst_stream(self.number, code))
            self._part()

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
        while out and not line.paused:
            room = min(self.window, line.window, line.frame_size)
            if room <= 0:
                break
            piece = out.popleft()
            if len(piece) > room:
                out.appendleft(piece[room:])
                piece = piece[:room]
            self._leave(len(piece), piece)
        if out:
            line.hold(self)
        elif self._ending:
            ending, self._ending = self._ending, b""
            line.write(ending)
            self._said_all = True
            if self._final and not self._heard_all:
                self.reset(Code.NO_ERROR)
            self._look_over()
        if self._drained is not None:
            if self.congested:  # perhaps only because the last piece was more than the system takes
                line.hold(self)
            else:
                self._release()

    def _leave(self, size: int, *parts: Bytes) -> None:
        self.window -= size
        self._line.window -= size
        head = frames.head(Kind.DATA, 0, self.number, size)
        if size <= _JOINED:
            self._line.write(b"".join((head, *parts)))
        else:
            self._line.write(head, *parts)

    def _release(self) -> None:
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)

    # -- in ------------------------------------------------------------------------------------------------------------

    def take(self, payload: Bytes, size: int, end: bool) -> None:
        """Takes what a DATA frame of `size` bytes holds."""
        self._unread += size
        if self._unread > _FEW and not end:
            self._line.write(frames.window_update(self.number, self._unread))
            self._unread = 0
        decoder = self._decoder
        try:
            decoder.feed(payload)
            while (cut := decoder.cut()) is not None:
                message, compressed = cut
                if compressed:
                    raise MeshError("a message is compressed, which nobody offered to read")
                self.events.message(message)
            if end:
                decoder.finish()
        except MeshError as error:  # of the framing: events raise nothing
            events = self.events
            self.reset(Code.INTERNAL_ERROR)
            events.lost(error.message)
            return
        if end:
            self._end_heard()

    def take_headers(self, fields: Fields, end: bool) -> None:
        """Takes a block of headers."""
        self.events.headers(fields)
        if end:
            self._end_heard()

    def _end_heard(self) -> None:
        self._heard_all = True
        self.events.ended()
        self._look_over()

    def _look_over(self) -> None:
        if self._heard_all and self._said_all:
            self._part()

    def take_reset(self, code: int) -> None:
        """Takes a reset. A server that has said all may use one to be spared the rest of the request."""
        if code == Code.NO_ERROR and self._heard_all:
            self._part()
        else:
            self.lose(f"the other end has reset the stream, with error {code}")

    def lose(self, why: str) -> None:
        """Has the stream end, through no doing of ours."""
        events = self.events
        self._part()
        events.lost(why)

    def _part(self) -> None:
        line, self._line = self._line, _GONE
        self.open, self.events = False, _Nobody()
        self._out.clear()
        line.forget(self)
        self._release()


def _block(number: int, fields: Sequence[Field], flags: int) -> bytes:
    block = b"".join(frames.literal(*field) for field in fields)
    return frames.frame(Kind.HEADERS, flags | frames.END_HEADERS, number, block)


class _Nobody:
    """Hears what comes for a stream that nobody wants any more."""

    def headers(self, fields: Any) -> None: ...
    def message(self, data: bytes) -> None: ...
    def ended(self) -> None: ...
    def lost(self, why: str) -> None: ...


class _Gone:
    """The connection of a stream that is over: takes everything and does nothing."""

    window = frame_size = 0
    paused = False

    def write(self, *parts: Bytes) -> None: ...
    def hold(self, stream: Stream) -> None: ...
    def forget(self, stream: Stream) -> None: ...


_GONE: Final = _Gone()
