"""Metadata of a gRPC call as HTTP/2 headers: timeouts, binary values, percent-encoding. Pure functions."""

import base64
import binascii
from collections.abc import Iterable, Sequence
from typing import Final

from infermesh.errors import InvalidInput

Header = tuple[bytes, bytes]
Metadata = Sequence[tuple[str, str | bytes]]

_UNITS: Final = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_RESERVED: Final = frozenset({b"content-type", b"te", b"user-agent", b"host", b"content-length", b"connection"})
_PLAIN: Final = frozenset(range(0x20, 0x7F)) - {ord("%")}


def parse_timeout(value: bytes) -> float:
    """Returns the seconds of a `grpc-timeout` header. Raises InvalidInput if it is malformed or negative."""
    digits, unit = value[:-1], _UNITS.get(value[-1:])
    if unit is None or len(digits) > 8 or not digits.isdigit():
        shown = value[:40].decode("latin-1")
        raise InvalidInput(f"grpc-timeout: expected 1 to 8 digits and one of H M S m u n, got {shown!r}")
    return int(digits) * unit


def percent_encode(text: str) -> bytes:
    """Returns a `grpc-message`: UTF-8, everything but printable ASCII as %XX."""
    raw = text.encode("utf-8", "replace")
    return b"".join(bytes((byte,)) if byte in _PLAIN else b"%%%02X" % byte for byte in raw)


def decode(headers: Iterable[Header]) -> list[tuple[str, str | bytes]]:
    """Returns what the caller attached, in order; keys that end in `-bin` have bytes, all others text.

    Raises InvalidInput if a binary value is not base64.
    """
    pairs: list[tuple[str, str | bytes]] = []
    for key, value in headers:
        if key in _RESERVED or key.startswith((b"grpc-", b":")):
            continue
        name = key.decode("ascii", "replace")
        if name.endswith("-bin"):  # several values may have been joined
            pairs.extend((name, decode_binary(name, part)) for part in value.split(b","))
        else:
            pairs.append((name, value.decode("latin-1")))
    return pairs


def decode_binary(name: str, value: bytes) -> bytes:
    """Returns the bytes of a base64 value, padded or not. Raises InvalidInput naming the key."""
    value = value.strip()
    try:
        return base64.b64decode(value + b"=" * (-len(value) % 4), validate=True)
    except binascii.Error as error:
        raise InvalidInput(f"metadata '{name}': expected base64") from error


def encode(pairs: Metadata) -> list[Header]:
    """Returns the headers of metadata; values of keys that end in `-bin` as base64 without padding."""
    return [(key.encode("ascii"), _encode_value(key, value)) for key, value in pairs]


def _encode_value(key: str, value: str | bytes) -> bytes:
    raw = value if isinstance(value, bytes) else value.encode("utf-8")
    return base64.b64encode(raw).rstrip(b"=") if key.endswith("-bin") else raw
