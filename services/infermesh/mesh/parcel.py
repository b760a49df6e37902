"""Bundles whose large payloads are neither copied into them nor out of them. Used by both ends of the bundled stream.

What travels is the plain message, as protobuf writes it: whoever knows nothing of this reads it all the same. But it is
sent in pieces, of which a large payload is one, and read around the large payloads, which stay where they came.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Generic, NamedTuple, TypeVar

from google.protobuf.internal.containers import RepeatedCompositeFieldContainer
from google.protobuf.message import Message

from infermesh.mesh.wire import Bytes, fields, varint
from infermesh.v1.worker_service_pb2 import ResultBundle, ResultItem, WorkBundle, WorkItem

LARGE: Final = 32 << 10
"""Bytes from which a payload travels beside its bundle: below, copying it is cheaper than handling it."""

B = TypeVar("B", WorkBundle, ResultBundle)
Item = TypeVar("Item", WorkItem, ResultItem)
Pieces = tuple[Bytes, ...]
"""A payload in pieces that follow one another."""
Large = Mapping[int, Pieces]
"""Payloads by the place of their item in a bundle; the item's own payload is empty."""
NONE: Final[Large] = MappingProxyType({})

_ITEM: Final = 0x0A  # tag of the items in both bundles
_PAYLOADS: Final[Mapping[type[Message], int]] = {WorkBundle: 0x22, ResultBundle: 0x12}  # tag of an item's payload


class Parcel(NamedTuple, Generic[B]):
    """A bundle and its large payloads, ready to be sent."""

    bundle: B
    large: Large = NONE


def add(items: RepeatedCompositeFieldContainer[Item], large: dict[int, Pieces], payload: bytes | Pieces) -> Item:
    """Returns a new item of a bundle, whose payload is in it or, if it is large or in pieces, in `large`."""
    item = items.add()
    if isinstance(payload, tuple):
        large[len(items) - 1] = payload
    elif len(payload) < LARGE:
        item.payload = payload
    else:
        large[len(items) - 1] = (payload,)
    return item


def whole(payload: bytes | Pieces) -> Bytes:
    """Returns a payload in one piece: a copy only if there are several."""
    if not isinstance(payload, tuple):
        return payload
    return payload[0] if len(payload) == 1 else b"".join(payload)


def joined(payload: bytes | Pieces) -> bytes:
    """Returns a payload as bytes of its own, for those who keep it or hand it to a library."""
    return bytes(whole(payload))


def pieces(parcel: Parcel[B]) -> list[Bytes]:
    """Returns the serialised bundle in pieces, in which the large payloads are as they are."""
    bundle, large = parcel
    if not large:
        return [bundle.SerializeToString()]
    rest = type(bundle)()
    rest.CopyFrom(bundle)
    rest.ClearField("items" if isinstance(rest, WorkBundle) else "results")
    out: list[Bytes] = [rest.SerializeToString()]
    tag = _PAYLOADS[type(bundle)]
    for place, item in enumerate(bundle.items if isinstance(bundle, WorkBundle) else bundle.results):
        payload: Pieces = large.get(place, ())
        size = sum(map(len, payload))
        body = item.SerializeToString() + (_head(tag, size) if payload else b"")
        out.append(_head(_ITEM, len(body) + size) + body)
        out.extend(payload)
    return out


def read(data: bytes, kind: type[B]) -> tuple[B, Large]:
    """Returns a bundle without its large payloads, and those: views of `data`. Raises DecodeError."""
    if len(data) < LARGE:
        return kind.FromString(data), NONE
    view, tag = memoryview(data), _PAYLOADS[kind]
    rest: list[Bytes] = []
    body: list[memoryview]
    large: dict[int, Pieces] = {}
    place = 0
    for field in fields(view):
        if field.tag == _ITEM and field.end - field.value >= LARGE:
            body, payload = _without_payload(view[field.value : field.end], tag)
            large[place] = (payload,)
            rest += (_head(_ITEM, sum(map(len, body))), *body)
        else:
            rest.append(view[field.begin : field.end])
        place += field.tag == _ITEM
    return kind.FromString(b"".join(rest)), large


def _without_payload(item: memoryview, tag: int) -> tuple[list[memoryview], memoryview]:
    """Returns an item's other fields and its payload. Of several the last one counts, as everywhere in protobuf."""
    rest: list[memoryview] = []
    payload = item[:0]
    for field in fields(item):
        if field.tag == tag:
            payload = item[field.value : field.end]
        else:
            rest.append(item[field.begin : field.end])
    return rest, payload


def _head(tag: int, size: int) -> bytes:
    return bytes((tag,)) + varint(size)
