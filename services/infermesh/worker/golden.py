"""The golden check: compares outputs with the recorded ones. Pure; used inside runner processes."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from infermesh.tensors import Array, decode
from infermesh.v1 import model_pb2, tensor_pb2

DEFAULT_ATOL: Final = 1e-4
DEFAULT_RTOL: Final = 1e-3


def arrays_of(tensors: Mapping[str, tensor_pb2.Tensor]) -> dict[str, Array]:
    """Returns writable arrays of recorded tensors. Raises BadTensor if their bytes do not fit their shape."""
    return {name: decode(name, tensor.datatype, tensor.shape, tensor.data).copy() for name, tensor in tensors.items()}


def inputs_of(sample: model_pb2.Sample) -> dict[str, Array]:
    """Returns the inputs of a sample. Raises BadTensor."""
    return arrays_of({tensor.name: tensor for tensor in sample.inputs})


def mismatch(sample: model_pb2.Sample, got: Mapping[str, Array]) -> str | None:
    """Returns how the outputs differ from those of the sample, or None if they agree.

    |got - expected| <= atol + rtol * |expected| for floats, where NaN equals NaN; everything else must be equal.
    """
    atol, rtol = sample.atol or DEFAULT_ATOL, sample.rtol or DEFAULT_RTOL
    for tensor in sample.outputs:
        if tensor.name not in got:
            return f'output "{tensor.name}": recorded in the sample, but the model does not give it'
        expected = decode(tensor.name, tensor.datatype, tensor.shape, tensor.data)
        text = _compare(tensor, expected, got[tensor.name], atol, rtol)
        if text is not None:
            return f'output "{tensor.name}"{text}'
    return None


def _compare(tensor: tensor_pb2.Tensor, expected: Array, got: Array, atol: float, rtol: float) -> str | None:
    if got.shape != expected.shape:
        return f": expected shape {list(expected.shape)}, got {list(got.shape)}"
    if tensor.datatype == "BYTES":
        raw = np.array([_raw(value) for value in got.reshape(-1)], dtype=object).reshape(got.shape)
        return _first(raw != expected, expected, raw)
    if tensor.datatype == "BF16":
        expected, got = _widen(expected), _widen(got)
    if expected.dtype.kind != "f":
        return _first(got != expected, expected, got)
    wide_expected, wide_got = expected.astype(np.float64), got.astype(np.float64)
    close = np.isclose(wide_got, wide_expected, rtol=rtol, atol=atol, equal_nan=True)
    if close.all():
        return None
    with np.errstate(invalid="ignore"):
        largest = np.nanmax(np.abs(wide_got - wide_expected), initial=0.0)
    return f"{_first(~close, expected, got)} (max abs diff {largest:.3g})"


def _first(wrong: npt.NDArray[np.bool_], expected: Array, got: Array) -> str | None:
    """Names the first element that is wrong."""
    if not wrong.any():
        return None
    at = tuple(int(i) for i in np.argwhere(wrong)[0])
    place = "" if not at else f" row {at[0]}" + (f" element {list(at[1:])}" if len(at) > 1 else "")
    return f"{place}: expected {_show(expected[at])}, got {_show(got[at])}"


def _show(value: Any) -> str:
    if isinstance(value, bytes | str):
        return repr(value[:40])
    return f"{value:.6g}" if isinstance(value, float | np.floating) else str(value)


def _raw(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _widen(bits: Array) -> Array:
    """Returns bfloat16 given by its bits as float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)
