"""One gRPC call on a connection, seen from either end: messages out as the windows allow, messages in as they come."""

from typing import Any, Final, Protocol

from infermesh.errors import MeshError
from infermesh.mesh.http2 import frames
from infermesh.mesh.http2.frames import Code
from infermesh.mesh.http2.outgoing import Fields, Line, Outgoing
from infermesh.mesh.messages import Decoder
from infermesh.mesh.wire import Bytes

LARGEST: Final = 2**31 - 1
"""Bytes of a message: what protobuf can write."""
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


class Stream(Outgoing):
    """A call whose messages are taken as they come."""

    __slots__ = ("_decoder", "_unread", "events")

    def __init__(self, line: Line, number: int, window: int) -> None:
        super().__init__(line, number, window)
        self.events: Events = _Nobody()
        self._decoder = Decoder(LARGEST)
        self._unread = 0

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
        self.look_over()

    def take_reset(self, code: int) -> None:
        """Takes a reset. A server that has said all may use one to be spared the rest of the request."""
        if code == Code.NO_ERROR and self._heard_all:
            self.part()
        else:
            self.lose(f"the other end has reset the stream, with error {code}")

    def lose(self, why: str) -> None:
        """Has the stream end, through no doing of ours."""
        events = self.events
        self.part()
        events.lost(why)

    def part(self) -> None:
        """Ends what this end has to do with the stream."""
        self.events = _Nobody()
        super().part()


class _Nobody:
    """Hears what comes for a stream that nobody wants any more."""

    def headers(self, fields: Any) -> None: ...
    def message(self, data: bytes) -> None: ...
    def ended(self) -> None: ...
    def lost(self, why: str) -> None: ...
