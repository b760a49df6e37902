"""A request as it comes, for `Exchange`: ASGI's `receive`. What nobody has asked for yet is bounded by the windows."""

import asyncio
from typing import Final, Protocol

from infermesh.gateway.framing.inbound import Event
from infermesh.gateway.protection import STREAM_WINDOW
from infermesh.mesh.http2 import frames
from infermesh.mesh.http2.frames import Code, ConnectionFault
from infermesh.mesh.wire import Bytes

WINDOW: Final = STREAM_WINDOW
"""Bytes of a request that may have come before somebody asks for them."""
_SMALL: Final = 4 << 10
_DISCONNECT: Final[Event] = {"type": "http.disconnect"}


class Line(Protocol):
    """The connection, as far as a body needs it."""

    def write(self, *parts: Bytes) -> None:
        """Sends bytes."""
        ...

    def consumed(self, size: int) -> None:
        """So many bytes of what came are no longer kept."""
        ...


class Body:
    """What comes on a stream. After its end, `receive` gives nothing until the caller goes away."""

    __slots__ = ("_chunks", "_ended", "_gone", "_line", "_loop", "_number", "_owed", "_told", "_waiter", "unread")

    def __init__(self, line: Line, number: int, loop: asyncio.AbstractEventLoop) -> None:
        self._line, self._number, self._loop = line, number, loop
        self._chunks: list[Bytes] = []
        self.unread = 0
        """Bytes that have come and were not asked for yet."""
        self._owed = 0  # bytes that were read, and whose room the sender has not been given back
        self._ended = self._told = self._gone = False
        self._waiter: asyncio.Future[Event] | None = None

    def take(self, payload: Bytes, size: int, end: bool) -> None:
        """Takes the content of a frame of `size` bytes. Raises ConnectionFault if the sender had no room for it."""
        self.unread += size
        if self.unread + self._owed > WINDOW:
            raise ConnectionFault.of(Code.FLOW_CONTROL_ERROR, f"expected at most {WINDOW} bytes before an update")
        self._ended = end
        if payload:
            self._keep(payload)
        elif not self._chunks:
            self._give_back()  # nobody need read padding
        self._tell()

    def _keep(self, payload: Bytes) -> None:
        chunks = self._chunks
        if chunks and len(payload) < _SMALL and len(chunks[-1]) < _SMALL:  # else a byte might take up a hundred
            chunks[-1] = bytes(chunks[-1]) + payload
        else:
            chunks.append(payload)

    @property
    def first(self) -> Bytes:
        """The beginning of what was not asked for yet, or nothing."""
        return self._chunks[0] if self._chunks else b""

    def join(self) -> bytes:
        """Returns all that was not asked for yet; it stays here."""
        joined = b"".join(self._chunks)
        self._chunks = [joined]
        return joined

    def receive(self) -> "asyncio.Future[Event]":
        """Returns the next event; one question at a time."""
        self._waiter = waiter = self._loop.create_future()
        self._tell()
        return waiter

    def close(self) -> None:
        """Drops what nobody will ask for any more. Idempotent."""
        self._line.consumed(self.unread)
        self.unread = 0
        self._chunks.clear()
        self._waiter = None

    def leave(self) -> None:
        """The caller has gone away."""
        self._gone = True
        self._tell()
        self.close()

    def _tell(self) -> None:
        waiter = self._waiter
        if waiter is None or waiter.done():
            return
        if self._gone:
            event = _DISCONNECT
        elif self._chunks or (self._ended and not self._told):
            event = {"type": "http.request", "body": b"".join(self._chunks), "more_body": not self._ended}
            self._chunks.clear()
            self._told = self._ended
            self._give_back()
        else:
            return
        self._waiter = None
        waiter.set_result(event)

    def _give_back(self) -> None:
        read, self.unread = self.unread, 0
        self._line.consumed(read)
        self._owed += read
        if self._owed >= WINDOW // 2 and not self._ended:
            self._line.write(frames.window_update(self._number, self._owed))
            self._owed = 0
