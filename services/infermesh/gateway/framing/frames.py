"""Messages of the front door's calls in gRPC's 5-byte frames, compressed or not. Pure; used by this folder only."""

import zlib
from dataclasses import dataclass
from typing import Final

from infermesh.errors import TooLarge, Unsupported
from infermesh.mesh.messages import HEADER, BadFrame
from infermesh.mesh.wire import Bytes

_WBITS: Final = {b"gzip": 31, b"deflate": 15}
ACCEPTED: Final = b"identity, deflate, gzip"
_RATIO_FREE: Final = 4 << 20
_PIECE: Final = 256 << 10


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


def encode(message: Bytes, encoding: bytes = b"identity") -> bytes:
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
