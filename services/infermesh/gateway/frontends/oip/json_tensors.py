"""Tensors as JSON numbers, booleans and strings, to raw bytes and back. Pure."""

from itertools import chain
from typing import Any, Final

import numpy as np

from infermesh import datatypes, tensors
from infermesh.errors import BadTensor, InvalidInput

_NO_JSON: Final = frozenset({"FP16", "BF16"})


def to_raw(name: str, datatype: str, shape: list[int], data: Any) -> bytes:
    """Returns the raw bytes of `data`, nested as the shape says or flat. Raises BadTensor."""
    if datatype in _NO_JSON:
        raise BadTensor.of(name, f"{datatype} as binary data (it has no JSON form)", "JSON data")
    if not isinstance(data, list):
        raise BadTensor.of(name, "a list as data", type(data).__name__)
    flat = _flatten(name, data)
    count = datatypes.elements(shape)
    if len(flat) != count:
        raise BadTensor.of(name, f"{count} elements for shape {shape}", f"{len(flat)}")
    if datatype == "BYTES":
        return datatypes.encode_bytes(_strings(name, flat))
    return tensors.encode(_numbers(name, datatype, flat))


def to_json(name: str, datatype: str, shape: list[int], raw: bytes) -> list[Any]:
    """Returns the elements, flat and row-major. Raises InvalidInput for what JSON can't hold."""
    if datatype in _NO_JSON:
        raise InvalidInput(f"output '{name}': {datatype} has no JSON form: ask for binary_data")
    array = tensors.decode(name, datatype, shape, raw)
    if datatype != "BYTES":
        flat: list[Any] = array.reshape(-1).tolist()
        return flat
    try:
        return [item.decode() for item in array.reshape(-1).tolist()]
    except UnicodeDecodeError as error:
        raise InvalidInput(f"output '{name}': its bytes are not UTF-8: ask for binary_data") from error


def _flatten(name: str, data: list[Any]) -> list[Any]:
    while data and isinstance(data[0], list):
        if not all(isinstance(part, list) for part in data):
            raise BadTensor.of(name, "lists nested alike", "a mixture of lists and elements")
        data = list(chain.from_iterable(data))
    return data


def _strings(name: str, flat: list[Any]) -> list[bytes]:
    for item in flat:
        if not isinstance(item, str):
            raise BadTensor.of(name, "strings for BYTES", type(item).__name__)
    return [item.encode("utf-8", "surrogatepass") for item in flat]


def _numbers(name: str, datatype: str, flat: list[Any]) -> tensors.Array:
    wanted = np.dtype(tensors.numpy_dtype(datatype))
    allowed = _ALLOWED[wanted.kind]
    kinds = set(map(type, flat))
    if not kinds <= allowed:
        shown = ", ".join(sorted(kind.__name__ for kind in kinds - allowed))
        raise BadTensor.of(name, f"{datatype} elements", f"JSON of type {shown}")
    if wanted.kind == "b" and any(item not in (0, 1) for item in flat):
        raise BadTensor.of(name, "true, false, 0 or 1 for BOOL", "another number")
    try:
        with np.errstate(over="raise"):  # a number that is too large must not become infinite
            return np.array(flat, dtype=wanted)
    except (OverflowError, FloatingPointError) as error:
        info = np.iinfo(wanted) if wanted.kind in "iu" else None
        span = f"{info.min} to {info.max}" if info else f"a {wanted.name}"
        raise BadTensor.of(name, f"{datatype} elements within {span}", "one beyond") from error


_ALLOWED: Final[dict[str, set[type]]] = {
    "b": {bool, int},
    "i": {int},
    "u": {int},
    "f": {int, float},
}
