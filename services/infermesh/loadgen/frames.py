"""HTTP/2 frames, as far as a client of unary gRPC calls needs them (RFC 9113, RFC 7541). Pure.

A call of a load test must cost far less than what it asks for; with `grpc.aio` it costs more than the gateway does.
"""

import struct
from collections.abc import Iterable, Iterator
from enum import IntEnum
from typing import Final, NamedTuple

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
WINDOW: Final = 2**31 - 1
FIRST_WINDOW: Final = 65_535
FRAME_SIZE: Final = 16_384

END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
_PADDED: Final = 0x8
_PRIORITY: Final = 0x20


class Kind(IntEnum):
    """Types of frames."""

    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


class Setting(IntEnum):
    """Identifiers of settings."""

    HEADER_TABLE_SIZE = 1
    ENABLE_PUSH = 2
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5


class Frame(NamedTuple):
    """A frame that came: its type (there may be unknown ones), flags, stream and content."""

    kind: int
    flags: int
    stream: int
    payload: bytes


def frame(kind: Kind, flags: int, stream: int, payload: bytes) -> bytes:
    """Returns a frame."""
    size = len(payload)
    return struct.pack(">BHBBI", size >> 16, size & 0xFFFF, kind, flags, stream) + payload


def take(buffer: bytearray) -> Iterator[Frame]:
    """Yields the whole frames at the start of a buffer and removes them."""
    start, size = 0, len(buffer)
    while size - start >= 9:
        high, low, kind, flags, stream = struct.unpack_from(">BHBBI", buffer, start)
        end = start + 9 + (high << 16) + low
        if end > size:
            break
        yield Frame(kind, flags, stream & 0x7FFFFFFF, bytes(buffer[start + 9 : end]))
        start = end
    del buffer[:start]


def content(found: Frame) -> bytes:
    """Returns what a DATA or HEADERS frame holds, without padding and priority."""
    payload = found.payload
    if found.flags & _PADDED:
        payload = payload[1 : len(payload) - payload[0]]
    if found.kind == Kind.HEADERS and found.flags & _PRIORITY:
        payload = payload[5:]
    return payload


def settings(values: Iterable[tuple[Setting, int]]) -> bytes:
    """Returns a SETTINGS frame."""
    return frame(Kind.SETTINGS, 0, 0, b"".join(struct.pack(">HI", *pair) for pair in values))


def read_settings(payload: bytes) -> dict[int, int]:
    """Returns the values of a SETTINGS frame by identifier."""
    return dict(struct.iter_unpack(">HI", payload))


def window_update(stream: int, octets: int) -> bytes:
    """Returns a frame that lets the other side send so much more."""
    return frame(Kind.WINDOW_UPDATE, 0, stream, struct.pack(">I", octets))


def literal(name: bytes, value: bytes) -> bytes:
    """Returns a header field that neither side remembers, so that a block means the same at any time."""
    return b"\x00" + _string(name) + _string(value)


def _string(text: bytes) -> bytes:
    if len(text) < 0x7F:
        return bytes((len(text),)) + text
    rest, octets = len(text) - 0x7F, [0x7F]
    while rest >= 0x80:
        octets.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes((*octets, rest)) + text
