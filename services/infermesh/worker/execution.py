"""One loaded version inside a runner process: load, golden check, warm-up, and execution of batches."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from infermesh.errors import BadTensor, ConfigError, InvalidInput, LoadFailed, MeshError, ModelFailed
from infermesh.mesh.extensions import Table
from infermesh.tensors import Array
from infermesh.v1 import model_pb2, runner_pb2
from infermesh.worker import golden, warmup
from infermesh.worker.backends.base import Backend, LoadContext, RunnerBroken
from infermesh.worker.frames import Output
from infermesh.worker.memory import private_bytes
from infermesh.worker.rules import Rules

_WARMUP_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Loaded:
    """What loading told."""

    memory_bytes: int
    batch_times: warmup.BatchTimes
    slots: int = 0
    """Most sequences at once, of a decoupled version."""


class Execution:
    """Runs one version on one backend. Not thread-safe. Build it with `load`."""

    def __init__(self, backend: Backend, version: model_pb2.ModelVersion) -> None:
        self._backend = backend
        self._rules = Rules(version)
        self._outputs = self._rules.wanted(())
        self._batched = version.max_batch_size > 0

    @classmethod
    def load(cls, command: runner_pb2.LoadCommand, backends: Table[type[Backend]]) -> tuple["Execution", Loaded]:
        """Loads, checks and warms up a version. Raises LoadFailed with the reason."""
        backend, context, samples = open_backend(command, backends)
        version = context.version
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
        feed = self._rules.feed(specs, buffers)
        names = self._rules.wanted(wanted) if wanted else self._outputs
        started = time.perf_counter_ns()
        results = self._infer(feed, names)
        taken = (time.perf_counter_ns() - started) // 1000
        rows = specs[0].shape[0] if self._batched else None
        return [self._rules.output(name, results, rows) for name in names], taken

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

    def _check_samples(self, samples: Iterable[model_pb2.Sample], inputs: Sequence[dict[str, Array]]) -> None:
        for at, (sample, feed) in enumerate(zip(samples, inputs, strict=True)):
            try:
                results = self._infer(feed, self._outputs)
                rows = len(next(iter(feed.values()))) if self._batched else None
                for name in self._outputs:
                    self._rules.output(name, results, rows)
                difference = golden.mismatch(sample, results)
            except RunnerBroken:
                raise
            except MeshError as error:
                raise LoadFailed(f"golden check: sample {at}: {error.message}") from error
            if difference is not None:
                raise LoadFailed(f"golden check: sample {at}: {difference}", reason="GOLDEN_CHECK_FAILED")

    def _warm_up(self, context: LoadContext, *, certain: bool) -> warmup.BatchTimes:
        """Measures; chooses the threads where there is a choice. `certain` tells that the inputs must be accepted."""
        choices = warmup.thread_choices(context.threads) if context.device == "cpu" else [context.threads]
        budget = _WARMUP_SECONDS * min(2, len(choices)) / len(choices)  # a choice is worth some more time
        limit, clock = context.version.max_batch_size, time.perf_counter
        measured = {}
        try:
            for threads in choices:
                self._backend.use_threads(threads)
                measured[threads] = warmup.measure(self._all_outputs, context.probe, limit, budget, clock)
            if len(choices) == 1:
                return measured[choices[0]]
            rows, seconds = warmup.largest_common(measured.values())
            once = partial(self._all_outputs, warmup.tile(context.probe, rows) if limit else context.probe)
            times = dict(zip(choices, seconds, strict=True))
            times = warmup.race(self._backend.use_threads, once, times, _WARMUP_SECONDS, clock)
        except (InvalidInput, ModelFailed) as error:
            if certain:
                raise LoadFailed(f"warm-up: {error.message}") from error
            return ()
        best = warmup.best_threads(times)
        self._backend.use_threads(best)
        return measured[best]

    def _all_outputs(self, feed: Mapping[str, Array]) -> Mapping[str, Array]:
        return self._infer(feed, self._outputs)


def open_backend(
    command: runner_pb2.LoadCommand, backends: Table[type[Backend]]
) -> tuple[Backend, LoadContext, list[dict[str, Array]]]:
    """Returns a backend that has loaded a version, what it was told, and the samples' inputs. Raises LoadFailed."""
    version = command.version
    if not version.signature.inputs or not version.signature.outputs:
        raise LoadFailed("signature: expected at least one input and one output")
    samples = [_sample_inputs(sample, at) for at, sample in enumerate(version.samples)]
    backend = _backend(backends, version.backend)
    context = LoadContext(
        version=version,
        folder=Path(command.folder),
        device=command.device or "cpu",
        threads=max(1, command.threads),
        allow_python=command.allow_python,
        probe=samples[0] if samples else warmup.zeros(version.signature),
    )
    _load(backend, context)
    return backend, context, samples


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
