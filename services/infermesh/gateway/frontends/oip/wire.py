"""Reads names, id and parameters of a serialised ModelInferRequest without decoding its tensors. Pure.

Protobuf's wire format: every field is a varint tag (number << 3 | kind) and a value; kind 2 carries its length, so that
tensors are stepped over. A field may come in any place and more than once: the last one counts, maps are merged.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from google.protobuf.message import DecodeError

from infermesh.errors import InvalidInput
from infermesh.mesh.wire import read_varint, varint
from infermesh.oip.v2 import grpc_service_pb2 as oip

Parameters = Mapping[str, oip.InferParameter]

_NAME: Final = 1 << 3 | 2
_VERSION: Final = 2 << 3 | 2
_ID: Final = 3 << 3 | 2
_PARAMETERS: Final = 4 << 3 | 2
_GROUP: Final = 3
_GROUP_END: Final = 4
_MOST_NESTED: Final = 100


class Head(NamedTuple):
    """What a request says beside its tensors. `parameters` are still serialised; see `parameters_of`."""

    model: str
    version: str
    id: str
    parameters: bytes


def scan(data: bytes) -> Head:
    """Returns the head of a serialised ModelInferRequest. Raises InvalidInput if the bytes are none."""
    model = version = request_id = parameters = b""
    at, end = 0, len(data)
    try:
        while at < end:
            begin = at
            tag = data[at]
            at += 1
            if tag > 127:
                tag, at = read_varint(data, begin)
            if tag & 7 != 2:
                at = _skip(data, at, tag, 0)
                continue
            size = data[at]
            at += 1
            if size > 127:
                size, at = read_varint(data, at - 1)
            stop = at + size
            if tag == _NAME:
                model = data[at:stop]
            elif tag == _VERSION:
                version = data[at:stop]
            elif tag == _ID:
                request_id = data[at:stop]
            elif tag == _PARAMETERS:
                parameters += data[begin:stop]
            elif tag < 8:
                raise _malformed(data)
            at = stop
    except (IndexError, DecodeError) as error:
        raise _malformed(data) from error
    if at > end:
        raise _malformed(data)
    # made as tuples are: a named one's own way costs as much as all the rest
    number = _text("model_version", version) if version else ""
    named = _text("id", request_id) if request_id else ""
    return tuple.__new__(Head, (_text("model_name", model), number, named, parameters))


def parameters_of(head: Head) -> Parameters:
    """Returns the parameters of a request. Raises InvalidInput."""
    if not head.parameters:
        return {}
    try:
        return oip.ModelInferRequest.FromString(head.parameters).parameters
    except DecodeError as error:
        raise InvalidInput("parameters: the bytes are not a map of InferParameter") from error


def field(number: int, value: bytes) -> bytes:
    """Returns a field with a length: bytes, text or a message."""
    return varint(number << 3 | 2) + varint(len(value)) + value


def _skip(data: bytes, at: int, tag: int, depth: int) -> int:
    """Returns where a field without a length ends, or one within a group."""
    kind = tag & 7
    if tag < 8 or depth > _MOST_NESTED:
        raise _malformed(data)
    if kind == 0:
        return read_varint(data, at)[1]
    if kind == 1:
        return at + 8
    if kind == 2:
        size, at = read_varint(data, at)
        return at + size
    if kind == 5:
        return at + 4
    if kind != _GROUP:
        raise _malformed(data)
    while True:
        inner, at = read_varint(data, at)
        if inner == (tag & ~7 | _GROUP_END):
            return at
        at = _skip(data, at, inner, depth + 1)


def _text(name: str, value: bytes) -> str:
    if not value:
        return ""
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{name}: expected UTF-8, got {value[:40]!r}", violations=[(name, "not UTF-8")]) from error


def _malformed(data: bytes) -> InvalidInput:
    return InvalidInput(f"request: the bytes are not a ModelInferRequest message ({len(data)} bytes)")
