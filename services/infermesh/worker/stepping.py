"""The sequences of one decoupled version inside a runner process: load, golden check, warm-up, and steps."""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np

from infermesh.errors import InvalidInput, LoadFailed, MeshError, ModelFailed
from infermesh.mesh.extensions import Table
from infermesh.tensors import Array
from infermesh.v1 import model_pb2, runner_pb2
from infermesh.worker import golden
from infermesh.worker.backends.base import Backend, RunnerBroken
from infermesh.worker.backends.engine import Decoupled, Emission, StepEngine
from infermesh.worker.execution import Loaded, describe, open_backend
from infermesh.worker.frames import Output, describe_output, encode_error, split
from infermesh.worker.memory import private_bytes
from infermesh.worker.rules import Rules

_WARMUP_SECONDS: Final = 1.0
_PROBE: Final = 0
"""Number of the sequences that loading runs; commands count from 1."""

Told = tuple[runner_pb2.Emission, list[memoryview]]
"""An emission for the worker and the buffers of its outputs."""


class Stepping:
    """Runs one decoupled version on its engine. Not thread-safe. Build it with `load`."""

    def __init__(self, backend: Backend, engine: StepEngine, version: model_pb2.ModelVersion) -> None:
        self._backend, self._engine = backend, engine
        self._rules = Rules(version)
        self._all = self._rules.wanted(())
        self._under_way: dict[int, list[str]] = {}  # with the outputs that each wants

    @classmethod
    def load(cls, command: runner_pb2.LoadCommand, backends: Table[type[Backend]]) -> tuple["Stepping", Loaded]:
        """Loads, checks and warms up a version. Raises LoadFailed with the reason."""
        backend, context, samples = open_backend(command, backends)
        if not isinstance(backend, Decoupled):
            raise LoadFailed(f"backend {context.version.backend!r}: it can't run decoupled versions")
        stepping = cls(backend, backend.engine(), context.version)
        stepping._check_samples(context.version.samples, samples)
        times = stepping._warm_up(context.probe, certain=bool(samples))
        memory = backend.memory_bytes()
        slots = stepping._engine.slots()
        return stepping, Loaded(private_bytes() if memory is None else memory, times, slots)

    @property
    def busy(self) -> bool:
        """Tells whether there is something to step."""
        return bool(self._under_way)

    def begin(self, number: int, command: runner_pb2.RunCommand, payload: memoryview) -> None:
        """Takes up a sequence. Raises InvalidInput (also BadTensor), ModelFailed or RunnerBroken."""
        specs = command.inputs
        # the engine may keep them, and the next command overwrites the payload
        buffers = split(specs, memoryview(bytearray(payload)))
        self._add(number, self._rules.feed(specs, buffers), self._rules.wanted(command.outputs))

    def cancel(self, number: int) -> None:
        """Forgets a sequence, if it is still under way."""
        if self._under_way.pop(number, None) is not None:
            self._engine.cancel(number)

    def step(self) -> list[Told]:
        """Advances the sequences and returns what is to be told of them. Raises RunnerBroken."""
        return [self._tell(emission) for emission in self._advance()]

    def close(self) -> None:
        """Gives the model back."""
        self._backend.close()

    def _add(self, number: int, feed: Mapping[str, Array], wanted: list[str]) -> None:
        try:
            self._engine.add(number, feed, wanted)
        except MeshError:
            raise
        except Exception as error:
            raise ModelFailed(f"the model failed: {describe(error)}") from error
        self._under_way[number] = wanted

    def _advance(self) -> Sequence[Emission]:
        """Steps the engine; if it fails, so has every sequence: nothing says whose fault it is."""
        try:
            return self._engine.step()
        except RunnerBroken:
            raise
        except Exception as error:
            failed = ModelFailed(f"the model failed: {describe(error)}")
            failed.__cause__ = error
            lost = list(self._under_way)
            for number in lost:
                self._engine.cancel(number)
            return [Emission(lost, finished=lost, error=error if isinstance(error, MeshError) else failed)]

    def _tell(self, emission: Emission) -> Told:
        emission, outputs = self._checked(emission)
        told = runner_pb2.Emission(
            sequences=emission.sequences,
            outputs=[describe_output(output) for output in outputs],
            finished=emission.finished,
        )
        if emission.error is not None:
            told.error.CopyFrom(encode_error(emission.error))
        return told, [output.data for output in outputs]

    def _checked(self, emission: Emission) -> tuple[Emission, list[Output]]:
        """Returns an emission and its outputs in raw form; or its failure if they are bad."""
        count, outputs = len(emission.sequences), []
        try:
            outputs = [self._rules.stacked(name, emission.outputs, count) for name in self._given(emission)]
        except MeshError as error:
            for number in emission.sequences:
                if number not in emission.finished:
                    self._engine.cancel(number)
            emission = Emission(emission.sequences, finished=emission.sequences, error=error)
        for number in emission.finished:
            self._under_way.pop(number, None)
        return emission, outputs

    def _given(self, emission: Emission) -> Sequence[str]:
        """Returns the outputs of an emission in the order of the signature. Raises ModelFailed if one lacks."""
        if not emission.outputs:
            return ()
        given = [name for name in self._all if name in emission.outputs]
        if len(given) != len(self._all):
            for number in emission.sequences:
                for name in self._under_way.get(number, ()):
                    if name not in emission.outputs:
                        raise ModelFailed(f"output '{name}': a sequence wants it, the model did not give it")
        return given

    # --- loading -------------------------------------------------------------------------------------------------

    def _responses(self, feed: Mapping[str, Array], seconds: float) -> list[Mapping[str, Array]]:
        """Runs one sequence to its end, or for about so long, and returns its responses. Raises MeshError."""
        responses: list[Mapping[str, Array]] = []
        until = time.perf_counter() + seconds
        self._add(_PROBE, {name: array.copy() for name, array in feed.items()}, self._all)
        while self._under_way and time.perf_counter() < until:
            for emission in self._advance():
                checked, _ = self._checked(emission)
                if checked.error is not None:
                    raise checked.error
                if checked.outputs:
                    responses.append({name: array[0] for name, array in checked.outputs.items()})
        self.cancel(_PROBE)
        return responses

    def _check_samples(self, samples: Iterable[model_pb2.Sample], inputs: Sequence[Mapping[str, Array]]) -> None:
        """A sample holds what all responses together give, joined along their first dimension."""
        for at, (sample, feed) in enumerate(zip(samples, inputs, strict=True)):
            try:
                responses = self._responses(feed, float("inf"))
            except RunnerBroken:
                raise
            except MeshError as error:
                raise LoadFailed(f"golden check: sample {at}: {error.message}") from error
            got = {name: np.concatenate([r[name] for r in responses]) for name in self._all} if responses else {}
            difference = golden.mismatch(sample, got)
            if difference is not None:
                raise LoadFailed(f"golden check: sample {at}: {difference}", reason="GOLDEN_CHECK_FAILED")

    def _warm_up(self, probe: Mapping[str, Array], *, certain: bool) -> tuple[tuple[int, float], ...]:
        """Measures the time of a response. `certain` tells that the inputs must be accepted."""
        began = time.perf_counter()
        try:
            responses = self._responses(probe, _WARMUP_SECONDS)
        except (InvalidInput, ModelFailed) as error:
            if certain:
                raise LoadFailed(f"warm-up: {error.message}") from error
            return ()
        return ((1, (time.perf_counter() - began) / max(1, len(responses))),)
