"""Pieces of protobuf's wire format, for those who write or read a message without building it."""

from collections.abc import Iterator
from typing import Final, NamedTuple

from google.protobuf.message import DecodeError

Bytes = bytes | memoryview

_DELIMITED: Final = 2
_VARINT: Final = 0
_FIXED: Final = {1: 8, 5: 4}  # bytes of the wire types that always have as many


class Field(NamedTuple):
    """A field of a serialised message: its tag, and where the field, its value and what follows begin.

    The value of a field with a length is what that counts.
    """

    tag: int
    begin: int
    value: int
    end: int


def varint(number: int) -> bytes:
    """Returns a number from 0 as protobuf writes it: seven bits a byte, lowest first."""
    if number < 128:
        return bytes((number,))
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def fields(message: Bytes) -> Iterator[Field]:
    """Yields the fields of a serialised message, in order. Raises DecodeError where it is none; groups are none."""
    at, size = 0, len(message)
    while at < size:
        begin = at
        tag, at = read_varint(message, at)
        kind, value = tag & 7, at
        if kind == _DELIMITED:
            length, value = read_varint(message, at)
            at = value + length
        elif kind == _VARINT:
            at = read_varint(message, at)[1]
        elif kind in _FIXED:
            at += _FIXED[kind]
        else:
            raise DecodeError(f"wire type {kind} at byte {begin}")
        if at > size:
            raise DecodeError(f"the field at byte {begin} goes on after the end")
        yield Field(tag, begin, value, at)


def read_varint(message: Bytes, at: int) -> tuple[int, int]:
    """Returns the number that begins at a byte, and where it ends. Raises DecodeError if it does not."""
    number, size = 0, len(message)
    for shift in range(0, 64, 7):
        if at >= size:
            break
        byte = message[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, at
    raise DecodeError(f"the number before byte {at} has no end")
