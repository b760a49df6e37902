"""Tensors between their raw encoding and numpy (Open Inference Protocol v2). Used by whoever computes with them; who
only checks them uses `datatypes`."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from infermesh.datatypes import check_datatype, check_size, decode_bytes, encode_bytes
from infermesh.errors import BadTensor, InvalidInput

Array = npt.NDArray[Any]

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
