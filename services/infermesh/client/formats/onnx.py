"""Reads signatures from `.onnx` files by their protobuf wire form, skipping over the weights without loading them."""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from infermesh.client.formats import Description
from infermesh.errors import InvalidInput
from infermesh.v1 import model_pb2, tensor_pb2

# onnx.TensorProto.DataType
_DATATYPES: Final[dict[int, str]] = {
    1: "FP32",
    2: "UINT8",
    3: "INT8",
    4: "UINT16",
    5: "INT16",
    6: "INT32",
    7: "INT64",
    8: "BYTES",
    9: "BOOL",
    10: "FP16",
    11: "FP64",
    12: "UINT32",
    13: "UINT64",
    16: "BF16",
}
_GRAPH: Final = 7  # of ModelProto
_INITIALIZER, _INPUT, _OUTPUT = 5, 11, 12  # of GraphProto
_TENSOR_NAME: Final = 8  # of TensorProto

Field = tuple[int, int, int, int]
"""Number, wire type, then the value of a varint or 0, and the length of a delimited field or 0."""


def read(file: Path) -> Description:
    """Returns the signature of a model; initializers that are listed as inputs are left out. Raises InvalidInput if
    the file is not protobuf; a tensor of a kind without a datatype gives an empty description."""
    try:
        with file.open("rb") as stream:
            inputs, outputs, weights = _graph(stream)
    except (ValueError, EOFError, UnicodeDecodeError) as error:
        raise InvalidInput(f"file {file.name}: not an ONNX model: {error}") from error
    if not outputs:
        raise InvalidInput(f"file {file.name}: not an ONNX model: it has no outputs")
    wanted = [spec for spec in inputs if spec.name not in weights]
    if any(not spec.datatype for spec in [*wanted, *outputs]):
        return Description()
    return Description(model_pb2.Signature(inputs=wanted, outputs=outputs))


def _graph(
    stream: BinaryIO,
) -> tuple[list[tensor_pb2.TensorSpec], list[tensor_pb2.TensorSpec], set[str]]:
    inputs: list[tensor_pb2.TensorSpec] = []
    outputs: list[tensor_pb2.TensorSpec] = []
    weights: set[str] = set()
    for number, end in _delimited(stream, _size(stream)):
        if number != _GRAPH:
            continue
        for inner, inner_end in _delimited(stream, end):
            if inner == _INPUT:
                inputs.append(_value_info(stream, inner_end))
            elif inner == _OUTPUT:
                outputs.append(_value_info(stream, inner_end))
            elif inner == _INITIALIZER:
                weights.add(_tensor_name(stream, inner_end))
    return inputs, outputs, weights


def _value_info(stream: BinaryIO, end: int) -> tensor_pb2.TensorSpec:
    spec = tensor_pb2.TensorSpec()
    for number, inner_end in _delimited(stream, end):
        if number == 1:
            spec.name = _text(stream, inner_end)
        elif number == 2:
            for kind, kind_end in _delimited(stream, inner_end):
                if kind == 1:  # TypeProto.tensor_type
                    _tensor_type(stream, kind_end, spec)
    return spec


def _tensor_type(stream: BinaryIO, end: int, spec: tensor_pb2.TensorSpec) -> None:
    for number, wire, value, inner_end in _fields(stream, end):
        if number == 1 and wire == 0:
            spec.datatype = _DATATYPES.get(value, "")
        elif number == 2 and wire == 2:
            for dim, dim_end in _delimited(stream, inner_end):
                if dim == 1:
                    spec.shape.append(_dimension(stream, dim_end))


def _dimension(stream: BinaryIO, end: int) -> int:
    size = -1  # symbolic or unset
    for number, wire, value, _ in _fields(stream, end):
        if number == 1 and wire == 0:
            size = value if 0 < value < 1 << 62 else -1
    return size


def _tensor_name(stream: BinaryIO, end: int) -> str:
    name = ""
    for number, inner_end in _delimited(stream, end):
        if number == _TENSOR_NAME:
            name = _text(stream, inner_end)
    return name


def _delimited(stream: BinaryIO, end: int) -> Iterator[tuple[int, int]]:
    for number, wire, _, inner_end in _fields(stream, end):
        if wire == 2:
            yield number, inner_end


def _fields(stream: BinaryIO, end: int) -> Iterator[Field]:
    """Yields the fields up to `end`; whatever the caller left of a delimited one is skipped by a seek."""
    while (at := stream.tell()) < end:
        key = _varint(stream)
        wire, value, after = key & 7, 0, 0
        if wire == 0:
            value = _varint(stream)
            after = stream.tell()
        elif wire in (1, 5):
            after = stream.tell() + (8 if wire == 1 else 4)
        elif wire == 2:
            length = _varint(stream)
            after = stream.tell() + length
        if not at < after <= end:
            raise ValueError(f"field at byte {at} runs past its message")
        yield key >> 3, wire, value, after
        stream.seek(after)


def _varint(stream: BinaryIO) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = stream.read(1)
        if not byte:
            raise EOFError("the file ends within a number")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise ValueError("a number has more than ten bytes")


def _text(stream: BinaryIO, end: int) -> str:
    return stream.read(end - stream.tell()).decode()


def _size(stream: BinaryIO) -> int:
    size = stream.seek(0, 2)
    stream.seek(0)
    return size
