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
    """Cuts frames out of chunks. Holds no more than one message and one chunk."""

    __slots__ = ("_buffer", "_limit")

    def __init__(self, limit: int) -> None:
        self._buffer = bytearray()
        self._limit = limit

    def __len__(self) -> int:
        """Returns how many bytes wait to be cut."""
        return len(self._buffer)

    def feed(self, chunk: bytes) -> None:
        """Takes bytes from the wire."""
        self._buffer += chunk

    def cut(self) -> tuple[bytes, bool] | None:
        """Returns the next whole message as it was sent and whether it is compressed, or None.

        Raises BadFrame or TooLarge.
        """
        buffer = self._buffer
        if len(buffer) < HEADER:
            return None
        size = int.from_bytes(buffer[1:HEADER], "big")
        if buffer[0] > 1:
            raise BadFrame(f"frame: expected flag 0 or 1, got {buffer[0]}")
        if size > self._limit:
            raise TooLarge.of("message", size, self._limit)
        end = HEADER + size
        if len(buffer) < end:
            return None
        message, compressed = bytes(memoryview(buffer)[HEADER:end]), bool(buffer[0])
        del buffer[:end]
        return message, compressed

    def finish(self) -> None:
        """Ends the stream. Raises BadFrame if it broke off within a message."""
        if self._buffer:
            raise BadFrame(f"frame: the stream ended within a message, {len(self._buffer)} bytes of it came")
