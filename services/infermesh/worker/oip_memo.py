"""Recognises requests that differ from an earlier one only in their id and in the raw bytes of their tensors.

Clients send the same request over and over with other numbers in it. Serialised, everything but the id and the raw
contents is then the same bytes at the same places, so it needs neither parsing nor checking again. Used by `oip_codec`
for signatures without BYTES, whose raw contents would need a look inside.
"""

from dataclasses import dataclass
from typing import Final

from infermesh.mesh.wire import Bytes, varint

_MOST: Final = 64  # remembered forms
_LONGEST: Final = 4096  # bytes of a remembered form
_COPIED: Final = 4096  # bytes up to which a copy is cheaper than a view
# protobuf tags of ModelInferRequest, all length-delimited
_MODEL_NAME, _MODEL_VERSION, _ID, _RAW = 0x0A, 0x12, 0x1A, 0x3A


@dataclass(frozen=True, slots=True)
class Form:
    """What is alike in such requests. Places count from the end of the payload, so that the id's length is free."""

    number: int
    """For the user of the memo: which remembered request it is."""
    before: bytes
    """Everything before the id."""
    after: bytes
    """Everything between the id and the first raw content."""
    raws: tuple[tuple[int, bytes, int], ...]
    """Of each raw content: where its tag begins (negative), tag and length as they are written, and its size."""


class Memo:
    """The remembered forms, by the length of the payload without its id."""

    def __init__(self) -> None:
        self._forms: dict[int, Form] = {}

    def match(self, payload: Bytes) -> tuple[int, bytes, list[Bytes]] | None:
        """Returns number, id (undecoded) and raw contents of a payload of a remembered form, else None."""
        begin, end = _id_place(payload)
        form = self._forms.get(len(payload) - (end - begin))
        if form is None or payload[:begin] != form.before or payload[end : end + len(form.after)] != form.after:
            return None
        raws: list[Bytes] = []
        for at, head, size in form.raws:
            data = len(payload) + at + len(head)
            if payload[data - len(head) : data] != head:
                return None
            raws.append(payload[data : data + size] if size <= _COPIED else memoryview(payload)[data : data + size])
        return form.number, bytes(payload[begin + 2 : end]), raws

    def learn(self, payload: Bytes, id: str, sizes: list[int], number: int) -> bool:
        """Remembers the form of a payload with this id and raw contents of these sizes.

        False if it has an unusual layout. The payload must be as protobuf itself would write it, so that no field
        comes twice: of two ids the parser takes the last, and we would take the first.
        """
        begin, end = _id_place(payload)
        if payload[begin + 2 : end] != id.encode():
            return False  # an id too long to step over
        at, raws = len(payload), []
        for size in reversed(sizes):
            head = bytes((_RAW,)) + varint(size)
            at -= size + len(head)
            if at < end or payload[at : at + len(head)] != head:
                return False
            raws.append((at - len(payload), head, size))
        if len(self._forms) >= _MOST or at > _LONGEST:
            return False
        form = Form(number, bytes(payload[:begin]), bytes(payload[end:at]), tuple(reversed(raws)))
        return self._forms.setdefault(len(payload) - (end - begin), form) is form


def _id_place(payload: Bytes) -> tuple[int, int]:
    """Returns where the id's field begins and ends; an empty range where it would be if there is none.

    Only fields shorter than 128 bytes are stepped over: anything else is left to the parser.
    """
    at, size = 0, len(payload)
    for tag in (_MODEL_NAME, _MODEL_VERSION):
        if at + 1 < size and payload[at] == tag and payload[at + 1] < 128:
            at += 2 + payload[at + 1]
    if at + 1 < size and payload[at] == _ID and payload[at + 1] < 128 and at + 2 + payload[at + 1] <= size:
        return at, at + 2 + payload[at + 1]
    return at, at
