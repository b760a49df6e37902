"""Turns typed tensor contents of the Open Inference Protocol into raw bytes, and counts the elements of raw BYTES.

Used by `oip_codec` only; the raw form of fixed-size datatypes never comes here.
"""

from typing import Final

import numpy as np

from infermesh.datatypes import encode_bytes
from infermesh.errors import BadTensor
from infermesh.oip.v2 import grpc_service_pb2 as oip
from infermesh.tensors import numpy_dtype

_FIELDS: Final[dict[str, str]] = {
    "BOOL": "bool_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
_ALL: Final = tuple(dict.fromkeys(_FIELDS.values()))


def raw_of(name: str, datatype: str, contents: oip.InferTensorContents) -> bytes:
    """Returns typed contents in raw form.

    Raises BadTensor if the values are in another field than the datatype's, or one of them does not fit into it.
    """
    field = _FIELDS.get(datatype)
    if field is None:
        raise BadTensor.of(name, f"raw_input_contents for {datatype}, which has no typed field", "contents")
    stray = next((other for other in _ALL if other != field and len(getattr(contents, other))), None)
    if stray is not None:
        raise BadTensor.of(name, f"values in contents.{field} for {datatype}", f"values in contents.{stray}")
    values = getattr(contents, field)
    if datatype == "BYTES":
        return encode_bytes(values)
    try:
        # checked conversion: 300 must not become 44 as UINT8
        return np.array(values, dtype=numpy_dtype(datatype)).tobytes()
    except OverflowError as error:
        raise BadTensor.of(name, f"values that fit into {datatype}", f"from {min(values)} to {max(values)}") from error


def count_bytes(name: str, data: bytes) -> int:
    """Returns how many elements a raw BYTES tensor has. Raises BadTensor if a length runs past the end."""
    count, at, size = 0, 0, len(data)
    while at < size:
        end = at + 4 + int.from_bytes(data[at : at + 4], "little")
        if end > size or at + 4 > size:
            raise BadTensor.of(name, "4-byte lengths, each followed by so many bytes", f"{size - at} bytes at {at}")
        at = end
        count += 1
    return count


def split_bytes(data: memoryview, counts: list[int]) -> list[memoryview]:
    """Returns the parts of a raw BYTES tensor that hold `counts` elements each, one after the other.

    Raises ValueError if the tensor has fewer elements than that.
    """
    parts, at = [], 0
    for count in counts:
        begin = at
        for _ in range(count):
            at += 4 + int.from_bytes(data[at : at + 4], "little")
        if at > len(data):
            raise ValueError(f"BYTES: {len(data)} bytes are too few for {sum(counts)} elements")
        parts.append(data[begin:at])
    return parts
