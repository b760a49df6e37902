"""One loaded version inside a runner process: load, golden check, warm-up, and execution of batches."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from infermesh.errors import BadTensor, ConfigError, InvalidInput, LoadFailed, MeshError, ModelFailed
from infermesh.mesh.extensions import Table
from infermesh.tensors import Array, decode, encode, numpy_dtype
from infermesh.v1 import model_pb2, runner_pb2
from infermesh.worker import golden, warmup
from infermesh.worker.backends.base import Backend, LoadContext, RunnerBroken
from infermesh.worker.frames import Output
from infermesh.worker.memory import private_bytes

_WARMUP_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Loaded:
    """What loading told."""

    memory_bytes: int
    batch_times: warmup.BatchTimes


class Execution:
    """Runs one version on one backend. Not thread-safe. Build it with `load`."""

    def __init__(self, backend: Backend, version: model_pb2.ModelVersion) -> None:
        self._backend = backend
        self._inputs = {spec.name for spec in version.signature.inputs}
        self._outputs = {
            spec.name: (spec.datatype, np.dtype(numpy_dtype(spec.datatype)), tuple(spec.shape))
            for spec in version.signature.outputs
        }
        self._batched = version.max_batch_size > 0

    @classmethod
    def load(cls, command: runner_pb2.LoadCommand, backends: Table[type[Backend]]) -> tuple["Execution", Loaded]:
        """Loads, checks and warms up a version. Raises LoadFailed with the reason."""
        version = command.version
        if not version.signature.inputs or not version.signature.outputs:
            raise LoadFailed("signature: expected at least one input and one output")
        samples = [_sample_inputs(sample, at) for at, sample in enumerate(version.samples)]
        probe = samples[0] if samples else warmup.zeros(version.signature)
        backend = _backend(backends, version.backend)
        context = LoadContext(
            version=version,
            folder=Path(command.folder),
            device=command.device or "cpu",
            threads=max(1, command.threads),
            allow_python=command.allow_python,
            probe=probe,
        )
        _load(backend, context)
        execution = cls(backend, version)
        execution._check_samples(version.samples, samples)
        times = execution._warm_up(context, certain=bool(samples) or _is_closed(version))
        memory = backend.memory_bytes()
        return execution, Loaded(private_bytes() if memory is None else memory, times)

    def run(
        self, specs: Sequence[runner_pb2.BufferSpec], buffers: Sequence[memoryview], wanted: Sequence[str]
    ) -> tuple[list[Output], int]:
        """Returns the wanted outputs (none means all) of a batch and the microseconds that the backend took.

        Raises InvalidInput (also BadTensor), ModelFailed or RunnerBroken.
        """
        feed = {
            spec.name: _aligned(decode(spec.name, spec.datatype, spec.shape, buffer))
            for spec, buffer in zip(specs, buffers, strict=True)
        }
        if feed.keys() != self._inputs:
            raise InvalidInput(f"inputs: expected {_names(self._inputs)}, got {_names(feed)}")
        names = list(wanted) or list(self._outputs)
        started = time.perf_counter_ns()
        results = self._infer(feed, names)
        taken = (time.perf_counter_ns() - started) // 1000
        rows = specs[0].shape[0] if self._batched else None
        return [self._output(name, results, rows) for name in names], taken

    def close(self) -> None:
        """Gives the model back."""
        self._backend.close()

    def _infer(self, feed: Mapping[str, Array], names: Sequence[str]) -> Mapping[str, Array]:
        try:
            return self._backend.infer(feed, names)
        except MeshError:
            raise
        except Exception as error:
            raise ModelFailed(f"the model failed: {describe(error)}") from error

    def _output(self, name: str, results: Mapping[str, Array], rows: int | None) -> Output:
        if name not in self._outputs:
            raise InvalidInput(f"outputs: the model has {_names(self._outputs)}, got {name!r}")
        if name not in results:
            raise ModelFailed(f"output '{name}': the signature has it, the model did not give it")
        array, (datatype, dtype, shape) = results[name], self._outputs[name]
        if not _is_of(array, dtype) or not _fits(array.shape, shape, rows):
            wanted = f"{datatype}{[rows if rows is not None else shape[0], *shape[1:]] if shape else []}"
            raise ModelFailed(f"output '{name}': expected {wanted}, the model gave {array.dtype}{list(array.shape)}")
        return Output(name, datatype, array.shape, _raw(array))

    def _check_samples(self, samples: Iterable[model_pb2.Sample], inputs: Sequence[dict[str, Array]]) -> None:
        for at, (sample, feed) in enumerate(zip(samples, inputs, strict=True)):
            try:
                results = self._infer(feed, list(self._outputs))
                rows = len(next(iter(feed.values()))) if self._batched else None
                for name in self._outputs:
                    self._output(name, results, rows)
                difference = golden.mismatch(sample, results)
            except RunnerBroken:
                raise
            except MeshError as error:
                raise LoadFailed(f"golden check: sample {at}: {error.message}") from error
            if difference is not None:
                raise LoadFailed(f"golden check: sample {at}: {difference}", reason="GOLDEN_CHECK_FAILED")

    def _warm_up(self, context: LoadContext, *, certain: bool) -> warmup.BatchTimes:
        """Measures; chooses the threads where there is a choice. `certain` tells that the inputs must be accepted."""
        names = list(self._outputs)
        choices = warmup.thread_choices(context.threads) if context.device == "cpu" else [context.threads]
        measured = []
        try:
            for threads in choices:
                self._backend.use_threads(threads)
                budget = _WARMUP_SECONDS / len(choices)
                times = warmup.measure(
                    lambda feed: self._infer(feed, names),
                    context.probe,
                    context.version.max_batch_size,
                    budget,
                    time.perf_counter,
                )
                measured.append((threads, times))
        except (InvalidInput, ModelFailed) as error:
            if certain:
                raise LoadFailed(f"warm-up: {error.message}") from error
            return ()
        best = warmup.best_threads(measured)
        self._backend.use_threads(best)
        return dict(measured)[best]


def describe(error: BaseException) -> str:
    """Returns kind and first line of an exception, as a caller may see it."""
    text = str(error).strip().partition("\n")[0][:300]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _backend(backends: Table[type[Backend]], name: str) -> Backend:
    try:
        return backends.load(name)()
    except ConfigError as error:
        raise LoadFailed(error.message) from error
    except ImportError as error:
        raise LoadFailed(f"backend {name!r}: not installed on this worker: {error}") from error


def _load(backend: Backend, context: LoadContext) -> None:
    try:
        backend.load(context)
    except MeshError:
        raise
    except Exception as error:
        raise LoadFailed(f"backend {context.version.backend!r}: {describe(error)}") from error


def _sample_inputs(sample: model_pb2.Sample, at: int) -> dict[str, Array]:
    try:
        return golden.inputs_of(sample)
    except BadTensor as error:
        raise LoadFailed(f"golden check: sample {at}: {error.message}") from error


def _is_closed(version: model_pb2.ModelVersion) -> bool:
    """Tells whether the signature says every size but the batch, so that zeros of it are inputs a model must take."""
    open_sizes = [size for spec in version.signature.inputs for size in list(spec.shape)[version.max_batch_size > 0 :]]
    return all(size >= 0 for size in open_sizes) and all(s.datatype != "BYTES" for s in version.signature.inputs)


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
