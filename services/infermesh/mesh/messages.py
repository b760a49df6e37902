"""gRPC's framing of messages in a stream of bytes: a flag, four bytes of length, the message. Pure."""

from typing import Final

from infermesh.errors import MeshError, TooLarge
from infermesh.mesh.wire import Bytes

HEADER: Final = 5


class BadFrame(MeshError):
    """The peer broke the framing itself: INTERNAL, as gRPC has it."""

    reason = "BAD_FRAME"


class Decoder:
    """Cuts frames out of chunks. Holds no more than one message and one chunk; copies a message once at most."""

    __slots__ = ("_at", "_chunks", "_limit", "_size")

    def __init__(self, limit: int) -> None:
        self._chunks: list[Bytes] = []
        self._at = 0  # where the next frame begins in the first chunk
        self._size = 0
        self._limit = limit

    def __len__(self) -> int:
        """Returns how many bytes wait to be cut."""
        return self._size

    def missing(self) -> int:
        """Returns how many bytes of the message that has begun are still to come; 0 while its size is not known."""
        if not self._chunks or len(self._chunks[0]) - self._at < HEADER:
            return 0
        return max(0, HEADER + self._length() - self._size)

    def feed(self, chunk: Bytes) -> None:
        """Takes bytes from the wire."""
        if chunk:
            self._chunks.append(chunk)
            self._size += len(chunk)

    def cut(self) -> tuple[bytes, bool] | None:
        """Returns the next whole message as it was sent and whether it is compressed, or None.

        Raises BadFrame or TooLarge.
        """
        if self._size < HEADER:
            return None
        if len(self._chunks[0]) - self._at < HEADER:
            self._join()
        flag, size = self._chunks[0][self._at], self._length()
        if flag > 1:
            raise BadFrame(f"frame: expected flag 0 or 1, got {flag}")
        if size > self._limit:
            raise TooLarge.of("message", size, self._limit)
        if self._size < HEADER + size:
            return None
        return self._take(HEADER + size), flag == 1

    def _length(self) -> int:
        return int.from_bytes(self._chunks[0][self._at + 1 : self._at + HEADER], "big")

    def _take(self, end: int) -> bytes:
        """Returns the message of the frame of `end` bytes that comes next, which is there."""
        if len(self._chunks) > 1 and self._size == end:  # most large messages: nothing comes after them
            first, *rest = self._chunks
            message = b"".join((memoryview(first)[self._at + HEADER :], *rest))
            self._chunks, self._at, self._size = [], 0, 0
            return message
        if len(self._chunks[0]) - self._at < end:
            self._join()
        data, begin = self._chunks[0], self._at
        self._size -= end
        self._at += end
        if self._at == len(data):
            del self._chunks[0]
            self._at = 0
        return bytes(data[begin + HEADER : begin + end])

    def _join(self) -> None:
        first, *rest = self._chunks
        self._chunks, self._at = [b"".join((memoryview(first)[self._at :], *rest))], 0

    def finish(self) -> None:
        """Ends the stream. Raises BadFrame if it broke off within a message."""
        if self._size:
            raise BadFrame(f"frame: the stream ended within a message, {self._size} bytes of it came")
