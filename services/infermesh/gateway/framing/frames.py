"""Messages in and out of gRPC's 5-byte frames, compressed or not. Pure; used by `exchange` only."""

import zlib
from dataclasses import dataclass
from typing import Final

from infermesh.errors import MeshError, TooLarge, Unsupported

HEADER: Final = 5
_WBITS: Final = {b"gzip": 31, b"deflate": 15}
ACCEPTED: Final = b"identity, deflate, gzip"
_RATIO_FREE: Final = 4 << 20
_PIECE: Final = 256 << 10


class BadFrame(MeshError):
    """The peer broke the framing itself: INTERNAL, as gRPC has it."""

    reason = "BAD_FRAME"


@dataclass(frozen=True, slots=True)
class Limits:
    """What requests may take. Sizes are in bytes, times in seconds.

    `message` is the largest message, after decompression, too; `ratio` how many times its size a compressed one may
    grow to; `held` what all messages that come in pieces may take together; such a message may take `body_timeout`
    beyond what its bytes need at `min_rate` bytes per second.
    """

    message: int = 256 << 20
    ratio: int = 100
    held: int = 512 << 20
    body_timeout: float = 20.0
    min_rate: float = 1024.0


def encode(message: bytes, encoding: bytes = b"identity") -> bytes:
    """Returns the frame of a message; `encoding` other than identity compresses it."""
    if encoding != b"identity":
        squeezer = zlib.compressobj(level=1, wbits=_WBITS[encoding])
        packed = squeezer.compress(message) + squeezer.flush()
        return b"\x01" + len(packed).to_bytes(4, "big") + packed
    return b"\x00" + len(message).to_bytes(4, "big") + message


def whole(chunk: bytes, limit: int) -> bytes | None:
    """Returns the message of a chunk that is one frame, not compressed, of at most `limit` bytes; else None."""
    size = len(chunk) - HEADER
    if not 0 <= size <= limit or chunk[0]:
        return None
    return chunk[HEADER:] if int.from_bytes(chunk[1:HEADER], "big") == size else None


def check_encoding(encoding: bytes) -> bytes:
    """Returns a `grpc-encoding` that we speak. Raises Unsupported."""
    if encoding != b"identity" and encoding not in _WBITS:
        shown = encoding[:40].decode("latin-1")
        raise Unsupported(f"grpc-encoding: expected one of {ACCEPTED.decode()}, got {shown!r}")
    return encoding


def inflate(data: bytes, encoding: bytes, limits: Limits) -> bytes:
    """Returns decompressed bytes.

    Raises TooLarge above the limit of a message, or above 4 MiB that came from less than `ratio` allows; BadFrame if
    the bytes are not what `encoding` says.
    """
    if encoding not in _WBITS:
        raise BadFrame("frame: compressed, but no grpc-encoding says how")
    allowed = min(limits.message, max(_RATIO_FREE, limits.ratio * len(data)))
    inflater, pieces, size = zlib.decompressobj(wbits=_WBITS[encoding]), [], 0
    while not inflater.eof:
        # in pieces, as making one large object would hold up the event loop, also where another thread does it
        try:
            piece = inflater.decompress(data, _PIECE)
        except zlib.error as error:
            raise BadFrame(f"compressed message: not {encoding.decode()}") from error
        size += len(piece)
        if size > allowed:
            raise TooLarge.of("message", size, allowed)
        pieces.append(piece)
        data = inflater.unconsumed_tail
        if not data and len(piece) < _PIECE:
            break
    if not inflater.eof or inflater.unused_data:
        raise BadFrame(f"compressed message: {encoding.decode()} data is cut short or goes on after its end")
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class Decoder:
    """Cuts frames out of chunks. Holds no more than one message and one chunk; copies a message once at most."""

    __slots__ = ("_at", "_chunks", "_limit", "_size")

    def __init__(self, limit: int) -> None:
        self._chunks: list[bytes] = []
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

    def feed(self, chunk: bytes) -> None:
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
        return data[begin + HEADER : begin + end]

    def _join(self) -> None:
        first, *rest = self._chunks
        self._chunks, self._at = [b"".join((memoryview(first)[self._at :], *rest))], 0

    def finish(self) -> None:
        """Ends the stream. Raises BadFrame if it broke off within a message."""
        if self._size:
            raise BadFrame(f"frame: the stream ended within a message, {self._size} bytes of it came")
