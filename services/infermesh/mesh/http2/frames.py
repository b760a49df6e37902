"""HTTP/2 frames, as far as gRPC needs them (RFC 9113), and header fields for them (RFC 7541). Pure."""

import struct
from collections.abc import Iterable
from enum import IntEnum
from typing import Final, NamedTuple

from infermesh.errors import MeshError
from infermesh.mesh.wire import Bytes

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
WINDOW: Final = 2**31 - 1
FIRST_WINDOW: Final = 65_535
FRAME_SIZE: Final = 16_384
MOST_FRAME_SIZE: Final = 2**24 - 1

END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
_PRIORITY: Final = 0x20

_HEAD: Final = struct.Struct(">BHBBI")
_BULKY: Final = 64 << 10
_LONGEST: Final = 64 << 10
"""Bytes of a frame that is not DATA, or of one with padding, that are waited for."""


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


class Code(IntEnum):
    """Error codes of RST_STREAM and GOAWAY."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    ENHANCE_YOUR_CALM = 11


class ConnectionFault(MeshError):
    """The peer broke the rules of HTTP/2, so that the connection is of no use any more. Build it with `of`."""

    reason = "BAD_CONNECTION"
    code = Code.PROTOCOL_ERROR
    """What the peer is told."""

    @classmethod
    def of(cls, code: Code, message: str) -> "ConnectionFault":
        """Returns the error with its code."""
        made = cls(message)
        made.code = code
        return made


DATA: Final = int(Kind.DATA)
"""The kind of nearly all frames: a member of an enum is looked up anew each time."""


class Frame(NamedTuple):
    """A frame that came: its type (there may be unknown ones), flags, stream and content."""

    kind: int
    flags: int
    stream: int
    payload: Bytes


def head(kind: int, flags: int, stream: int, size: int) -> bytes:
    """Returns how a frame with `size` bytes of content begins."""
    return _HEAD.pack(size >> 16, size & 0xFFFF, kind, flags, stream)


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Returns a frame."""
    return head(kind, flags, stream, len(payload)) + payload


class Splitter:
    """Cuts frames out of what comes on a connection. DATA is given as it comes: of a large frame piece by piece, the
    flags of its end with the last. Of others only one is held that is not whole."""

    def __init__(self) -> None:
        self._rest = b""
        self._before = 0  # bytes that came before it
        self._left = 0  # bytes of a DATA frame that are still to come
        self._flags = self._stream = 0

    def feed(self, chunk: bytes) -> list[Frame]:
        """Returns the frames that are whole now. Raises ConnectionFault for one that is too large."""
        found: list[Frame] = []
        if self._rest:
            chunk, self._rest = self._rest + chunk, b""
        at, end = self._piece(chunk, 0, found) if self._left else 0, len(chunk)
        while end - at >= _HEAD.size:
            high, low, kind, flags, stream = _HEAD.unpack_from(chunk, at)
            begin = at + _HEAD.size
            size = high << 16 | low
            if begin + size <= end:
                at = begin + size
                found.append(Frame(kind, flags, stream & WINDOW, _part(chunk, begin, at)))
            elif kind == Kind.DATA and not flags & PADDED:
                self._left, self._flags, self._stream = size, flags, stream & WINDOW
                at = self._piece(chunk, begin, found)
            elif size > _LONGEST:
                raise ConnectionFault.of(
                    Code.FRAME_SIZE_ERROR, f"expected frames of at most {_LONGEST} bytes, got {size}"
                )
            else:
                break
        self._rest = chunk[at:]
        self._before += at
        return found

    @property
    def unfinished(self) -> int | None:
        """Where in all that came a frame begins that is not whole, if there is one that is not known to be DATA."""
        rest = self._rest
        return self._before if rest and not (len(rest) >= _HEAD.size and rest[3] == Kind.DATA) else None

    def _piece(self, chunk: bytes, begin: int, found: list[Frame]) -> int:
        """Takes what there is of a DATA frame, and returns where that ends."""
        end = min(len(chunk), begin + self._left)
        self._left -= end - begin
        flags = self._flags & ~END_STREAM if self._left else self._flags
        found.append(Frame(Kind.DATA, flags, self._stream, _part(chunk, begin, end)))
        return end


def _part(chunk: bytes, begin: int, end: int) -> Bytes:
    return memoryview(chunk)[begin:end] if end - begin > _BULKY else chunk[begin:end]


def content(found: Frame) -> Bytes:
    """Returns what a DATA or HEADERS frame holds, without padding and priority. Raises ConnectionFault."""
    payload = found.payload
    if found.flags & PADDED:
        if not payload or payload[0] >= len(payload):
            raise ConnectionFault.of(Code.PROTOCOL_ERROR, "padding: longer than its frame")
        payload = payload[1 : len(payload) - payload[0]]
    if found.kind == Kind.HEADERS and found.flags & _PRIORITY:
        payload = payload[5:]
    return payload


def settings(values: Iterable[tuple[Setting, int]]) -> bytes:
    """Returns a SETTINGS frame."""
    return frame(Kind.SETTINGS, 0, 0, b"".join(struct.pack(">HI", *pair) for pair in values))


def read_settings(payload: Bytes) -> dict[int, int]:
    """Returns the values of a SETTINGS frame by identifier. Raises ConnectionFault if it makes no sense."""
    if len(payload) % 6:
        raise ConnectionFault.of(Code.FRAME_SIZE_ERROR, f"SETTINGS: expected a multiple of 6 bytes, got {len(payload)}")
    values = dict(struct.iter_unpack(">HI", payload))
    window, size = values.get(Setting.INITIAL_WINDOW_SIZE, 0), values.get(Setting.MAX_FRAME_SIZE, FRAME_SIZE)
    if window > WINDOW:
        raise ConnectionFault.of(
            Code.FLOW_CONTROL_ERROR, f"INITIAL_WINDOW_SIZE: expected at most {WINDOW}, got {window}"
        )
    if not FRAME_SIZE <= size <= MOST_FRAME_SIZE:
        text = f"MAX_FRAME_SIZE: expected {FRAME_SIZE} to {MOST_FRAME_SIZE}, got {size}"
        raise ConnectionFault.of(Code.PROTOCOL_ERROR, text)
    return values


def number(payload: Bytes, name: str) -> int:
    """Returns the number that a frame begins with. Raises ConnectionFault if it is too short for one."""
    if len(payload) < 4:
        raise ConnectionFault.of(Code.FRAME_SIZE_ERROR, f"{name}: expected 4 bytes or more, got {len(payload)}")
    return int.from_bytes(payload[:4], "big")


def window_update(stream: int, octets: int) -> bytes:
    """Returns a frame that lets the other side send so much more."""
    return frame(Kind.WINDOW_UPDATE, 0, stream, octets.to_bytes(4, "big"))


def rst_stream(stream: int, code: Code) -> bytes:
    """Returns a frame that ends a stream at once."""
    return frame(Kind.RST_STREAM, 0, stream, code.to_bytes(4, "big"))


def goaway(last: int, code: Code) -> bytes:
    """Returns a frame that ends a connection: streams up to `last` were looked at."""
    return frame(Kind.GOAWAY, 0, 0, last.to_bytes(4, "big") + code.to_bytes(4, "big"))


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
