"""What a version's signature says of the arrays that go into its backend and come out. Used inside runner processes."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from infermesh.errors import InvalidInput, ModelFailed
from infermesh.tensors import Array, decode, encode, numpy_dtype
from infermesh.v1 import model_pb2, runner_pb2
from infermesh.worker.frames import Output


class Rules:
    """The rules of one version."""

    def __init__(self, version: model_pb2.ModelVersion) -> None:
        self._inputs = {spec.name for spec in version.signature.inputs}
        self._outputs = {
            spec.name: (spec.datatype, np.dtype(numpy_dtype(spec.datatype)), tuple(spec.shape))
            for spec in version.signature.outputs
        }

    def feed(self, specs: Sequence[runner_pb2.BufferSpec], buffers: Sequence[memoryview]) -> dict[str, Array]:
        """Returns the arrays of buffers that came over the pipe; views of them. Raises InvalidInput or BadTensor."""
        feed = {
            spec.name: _aligned(decode(spec.name, spec.datatype, spec.shape, buffer))
            for spec, buffer in zip(specs, buffers, strict=True)
        }
        if feed.keys() != self._inputs:
            raise InvalidInput(f"inputs: expected {_names(self._inputs)}, got {_names(feed)}")
        return feed

    def wanted(self, names: Sequence[str]) -> list[str]:
        """Returns the outputs that are named, or all. Raises InvalidInput if the version has no such output."""
        for name in names:
            if name not in self._outputs:
                raise InvalidInput(f"outputs: the model has {_names(self._outputs)}, got {name!r}")
        return list(names) or list(self._outputs)

    def output(self, name: str, results: Mapping[str, Array], rows: int | None) -> Output:
        """Returns an output of an execution in raw form; its first dimension is `rows`, or as the signature says.

        Raises ModelFailed if it is not what the signature says.
        """
        array = self._given(name, results)
        datatype, dtype, shape = self._outputs[name]
        if not _is_of(array, dtype) or not _fits(array.shape, shape, rows):
            wanted = f"{datatype}{[rows if rows is not None else shape[0], *shape[1:]] if shape else []}"
            raise ModelFailed(f"output '{name}': expected {wanted}, the model gave {array.dtype}{list(array.shape)}")
        return Output(name, datatype, array.shape, _raw(array))

    def stacked(self, name: str, results: Mapping[str, Array], count: int) -> Output:
        """Returns an output of `count` sequences in raw form. Raises ModelFailed."""
        array = self._given(name, results)
        datatype, dtype, shape = self._outputs[name]
        if not _is_of(array, dtype) or len(array) != count or not _fits(array.shape[1:], shape, None):
            wanted = f"{count} times {datatype}{list(shape)}"
            raise ModelFailed(f"output '{name}': expected {wanted}, the model gave {array.dtype}{list(array.shape)}")
        return Output(name, datatype, array.shape, _raw(array))

    def _given(self, name: str, results: Mapping[str, Array]) -> Array:
        if name not in results:
            raise ModelFailed(f"output '{name}': the signature has it, the model did not give it")
        return results[name]


def _aligned(array: Array) -> Array:
    return array if array.flags.aligned else array.copy()


def _is_of(array: Any, dtype: np.dtype[Any]) -> bool:
    if not isinstance(array, np.ndarray):
        return False
    return bool(array.dtype == dtype) or (dtype.kind == "O" and array.dtype.kind in "SU")


def _fits(got: Sequence[int], wanted: Sequence[int], rows: int | None) -> bool:
    if len(got) != len(wanted) or (rows is not None and (not got or got[0] != rows)):
        return False
    return all(size in (-1, have) for have, size in zip(got, wanted, strict=True))


def _raw(array: Array) -> memoryview:
    if array.dtype.kind in "OSU":
        return memoryview(encode(array))
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _names(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in sorted(names)) or "none"
