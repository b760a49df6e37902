"""Datatypes and raw encodings of tensors (Open Inference Protocol v2). Used by every room; needs numpy only."""

import struct
from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from infermesh.errors import BadTensor, InvalidInput

Array = npt.NDArray[Any]

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

_NUMPY: Final[dict[str, Any]] = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.int8,
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),  # numpy has no bfloat16: its raw bits
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
_DATATYPES: Final = {np.dtype(kind): name for name, kind in _NUMPY.items() if name != "BF16"}


def check_datatype(datatype: str) -> str:
    """Returns `datatype` if the protocol knows it. Raises InvalidInput."""
    if datatype != "BYTES" and datatype not in ITEM_SIZES:
        known = ", ".join([*ITEM_SIZES, "BYTES"])
        raise InvalidInput(f"datatype: expected one of {known}, got {datatype!r}")
    return datatype


def datatype_of(array: Array) -> str:
    """Returns the datatype of a numpy array. Raises InvalidInput for one that the protocol has no name for."""
    if array.dtype.kind in "OSU":
        return "BYTES"
    if array.dtype.name == "bfloat16":  # of ml_dtypes
        return "BF16"
    datatype = _DATATYPES.get(array.dtype.newbyteorder("="))
    if datatype is None:
        raise InvalidInput(f"datatype: numpy's {array.dtype} has no counterpart in the Open Inference Protocol")
    return datatype


def numpy_dtype(datatype: str) -> npt.DTypeLike:
    """Returns the numpy dtype of a datatype; BYTES gives object, BF16 its raw bits as uint16."""
    return np.object_ if datatype == "BYTES" else _NUMPY[check_datatype(datatype)]


def elements(shape: Iterable[int]) -> int:
    """Returns how many elements a concrete shape has."""
    count = 1
    for size in shape:
        count *= size
    return count


def encode(array: Array) -> bytes:
    """Returns the raw bytes of an array: little-endian, row-major; BYTES elements with a 4-byte length each."""
    if array.dtype.kind in "OSU":
        return encode_bytes(x if isinstance(x, bytes) else str(x).encode() for x in array.reshape(-1).tolist())
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("<"))
    return np.ascontiguousarray(array).tobytes()


def decode(name: str, datatype: str, shape: Sequence[int], data: bytes | memoryview) -> Array:
    """Returns the array of raw bytes; a view where elements have a fixed size.

    Raises BadTensor if the sizes differ, or for a datatype or shape that can't be.
    """
    if datatype == "BYTES":
        items = decode_bytes(name, data)
        check_size(name, datatype, shape, len(items), "elements")
        array = np.empty(len(items), dtype=object)
        array[:] = items
        return _shaped(name, shape, array)
    check_size(name, datatype, shape, len(data), "bytes")
    return _shaped(name, shape, np.frombuffer(data, dtype=numpy_dtype(datatype)))


def _shaped(name: str, shape: Sequence[int], array: Array) -> Array:
    try:
        return array.reshape(tuple(shape))
    except ValueError as error:  # e.g. 65 dimensions, or an empty tensor with sizes beyond any memory
        raise BadTensor.of(name, "a shape that numpy can hold", f"{list(shape)} ({error})") from error


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
