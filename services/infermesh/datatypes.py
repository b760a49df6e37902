"""Datatypes and raw sizes of tensors (Open Inference Protocol v2). Used by every room; needs nothing."""

import struct
from collections.abc import Iterable, Sequence
from typing import Final

from infermesh.errors import BadTensor, InvalidInput

ITEM_SIZES: Final[dict[str, int]] = {
    "BOOL": 1,
    "UINT8": 1,
    "UINT16": 2,
    "UINT32": 4,
    "UINT64": 8,
    "INT8": 1,
    "INT16": 2,
    "INT32": 4,
    "INT64": 8,
    "FP16": 2,
    "BF16": 2,
    "FP32": 4,
    "FP64": 8,
}
"""Bytes of an element by datatype; BYTES is missing because its elements vary."""


def check_datatype(datatype: str) -> str:
    """Returns `datatype` if the protocol knows it. Raises InvalidInput."""
    if datatype != "BYTES" and datatype not in ITEM_SIZES:
        known = ", ".join([*ITEM_SIZES, "BYTES"])
        raise InvalidInput(f"datatype: expected one of {known}, got {datatype!r}")
    return datatype


def elements(shape: Iterable[int]) -> int:
    """Returns how many elements a concrete shape has."""
    count = 1
    for size in shape:
        count *= size
    return count


def check_size(name: str, datatype: str, shape: Sequence[int], got: int, unit: str) -> None:
    """Raises BadTensor unless a tensor of this datatype and concrete shape has `got` bytes (or elements)."""
    if unit == "bytes" and datatype not in ITEM_SIZES:
        raise BadTensor.of(name, f"a datatype of {', '.join(ITEM_SIZES)} or BYTES", repr(datatype))
    if any(size < 0 for size in shape):
        raise BadTensor.of(name, "sizes of 0 or more", f"{datatype}{list(shape)}")
    wanted = elements(shape) * (ITEM_SIZES[datatype] if unit == "bytes" else 1)
    if wanted != got:
        raise BadTensor.of(name, f"{wanted} {unit} for {datatype}{list(shape)}", f"{got} {unit}")


def encode_bytes(items: Iterable[bytes]) -> bytes:
    """Returns BYTES elements in raw form."""
    return b"".join(part for item in items for part in (struct.pack("<I", len(item)), item))


def decode_bytes(name: str, data: bytes | memoryview) -> list[bytes]:
    """Returns the elements of a raw BYTES tensor. Raises BadTensor if a length runs past the end."""
    view, items, at = memoryview(data), [], 0
    while at < len(view):
        end = at + 4
        if end <= len(view):
            end += int.from_bytes(view[at:end], "little")
        if end > len(view) or end < at + 4:
            raise BadTensor.of(
                name, "4-byte lengths, each followed by so many bytes", f"{len(view) - at} bytes at {at}"
            )
        items.append(bytes(view[at + 4 : end]))
        at = end
    return items
