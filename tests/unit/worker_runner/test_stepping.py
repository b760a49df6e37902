"""A decoupled version inside its runner: what its engine gives is checked, and failures stay with their sequences."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infermesh.errors import BadTensor, InvalidInput, LoadFailed, ModelFailed
from infermesh.mesh.extensions import Table
from infermesh.mesh.status import from_status
from infermesh.tensors import encode
from infermesh.v1 import model_pb2, runner_pb2
from infermesh.worker.backends.base import LoadContext, RunnerBroken
from infermesh.worker.backends.engine import Emission
from infermesh.worker.stepping import Stepping

Step = Callable[["Engine"], Sequence[Emission]]


def counting(engine: "Engine") -> list[Emission]:
    """Gives every sequence the numbers from 0 up to what it asked for, not including it."""
    given = [number for number, (at, end) in engine.running.items() if at < end]
    tokens = np.array([[engine.running[number][0]] for number in given], np.float32).reshape(-1, 1)
    for number in given:
        engine.running[number][0] += 1
    ended = [number for number, (at, end) in engine.running.items() if at >= end]
    for number in ended:
        del engine.running[number]
    if not given:
        return [Emission(ended, finished=ended)]
    return [Emission(given, {"y": tokens, "z": tokens.astype(np.int64)}, ended)]


class Engine:
    """An engine whose step the test gives, behind a backend that has it."""

    step_with: Step = staticmethod(counting)

    def __init__(self) -> None:
        self.running: dict[int, list[int]] = {}
        self.cancelled: list[int] = []

    def load(self, context: LoadContext) -> None:
        pass

    def engine(self) -> "Engine":
        return self

    def memory_bytes(self) -> int:
        return 7

    def slots(self) -> int:
        return 3

    def add(self, sequence: int, inputs: Any, outputs: Sequence[str]) -> None:
        count = int(inputs["x"][0])
        if count < 0:
            raise InvalidInput("less than nothing")
        if count > 100:
            raise KeyError("too many")
        self.running[sequence] = [0, count]

    def step(self) -> Sequence[Emission]:
        return type(self).step_with(self)

    def cancel(self, sequence: int) -> None:
        self.cancelled.append(sequence)
        self.running.pop(sequence, None)


class Plain:
    """A backend that has no engine."""

    def load(self, context: LoadContext) -> None:
        pass


def command(sample: Sequence[float] | None = None) -> runner_pb2.LoadCommand:
    version = model_pb2.ModelVersion(backend="fake", decoupled=True)
    version.signature.inputs.add(name="x", datatype="FP32", shape=[1])
    version.signature.outputs.add(name="y", datatype="FP32", shape=[-1])
    version.signature.outputs.add(name="z", datatype="INT64", shape=[-1])
    if sample is not None:
        recorded = version.samples.add()
        recorded.inputs.add(name="x", datatype="FP32", shape=[1], data=encode(np.array([3], np.float32)))
        tokens = np.array(sample, np.float32)
        recorded.outputs.add(name="y", datatype="FP32", shape=tokens.shape, data=encode(tokens))
    return runner_pb2.LoadCommand(version=version, folder=str(Path()))


def load(step: Step = counting, sample: Sequence[float] | None = None) -> Stepping:
    kind = type("Scripted", (Engine,), {"step_with": staticmethod(step)})
    stepping, loaded = Stepping.load(command(sample), table(kind))
    assert (loaded.slots, loaded.memory_bytes) == (3, 7)
    return stepping


def table(kind: type[Any]) -> Table[Any]:
    made: Table[Any] = Table("backend", {"fake": "unused:Unused"}, "infermesh.none")
    made.load = lambda name: kind  # type: ignore[method-assign]
    return made


def begin(stepping: Stepping, number: int, count: float, *outputs: str) -> None:
    data = np.array([count], np.float32).tobytes()
    spec = runner_pb2.BufferSpec(name="x", datatype="FP32", shape=[1], size_bytes=len(data))
    stepping.begin(number, runner_pb2.RunCommand(inputs=[spec], outputs=outputs), memoryview(data))


def error_of(emission: runner_pb2.Emission) -> Exception:
    return from_status(emission.error)


def test_steps_until_every_sequence_has_ended() -> None:
    stepping = load()
    begin(stepping, 1, 2)
    begin(stepping, 2, 1)
    ((first, data),) = stepping.step()
    assert (list(first.sequences), list(first.finished)) == ([1, 2], [2])
    assert [(spec.name, list(spec.shape)) for spec in first.outputs] == [("y", [2, 1]), ("z", [2, 1])]
    assert np.frombuffer(data[0], np.float32).tolist() == [0, 0]
    assert stepping.busy
    ((last, data),) = stepping.step()
    assert (list(last.sequences), list(last.finished)) == ([1], [1])
    assert np.frombuffer(data[1], np.int64).tolist() == [1]
    assert not stepping.busy


def test_a_cancelled_sequence_is_over() -> None:
    stepping = load()
    begin(stepping, 1, 5)
    stepping.cancel(1)
    stepping.cancel(1)
    assert not stepping.busy


@pytest.mark.parametrize(("count", "error"), [(-1, InvalidInput), (101, ModelFailed)])
def test_what_is_refused_is_not_under_way(count: float, error: type[Exception]) -> None:
    stepping = load()
    with pytest.raises(error):
        begin(stepping, 1, count)
    assert not stepping.busy


def test_unknown_outputs_and_bad_tensors_are_refused() -> None:
    stepping = load()
    with pytest.raises(InvalidInput, match="'nope'"):
        begin(stepping, 1, 1, "nope")
    spec = runner_pb2.BufferSpec(name="x", datatype="FP32", shape=[2], size_bytes=4)
    with pytest.raises(BadTensor):
        stepping.begin(1, runner_pb2.RunCommand(inputs=[spec]), memoryview(bytes(4)))


@pytest.mark.parametrize(
    ("outputs", "text"),
    [
        ({"y": np.zeros((1, 1), np.float64), "z": np.zeros((1, 1), np.int64)}, "'y': expected 1 times FP32"),
        ({"y": np.zeros((2, 1), np.float32), "z": np.zeros((1, 1), np.int64)}, "'y': expected 1 times FP32"),
        ({"y": np.zeros((1, 1), np.float32)}, "'z': a sequence wants it"),
    ],
    ids=["datatype", "count", "missing"],
)
def test_what_is_not_as_the_signature_says_fails_its_sequences(outputs: dict[str, Any], text: str) -> None:
    def bad(engine: Engine) -> list[Emission]:
        return [Emission([1], outputs), Emission([2], finished=[2])]

    stepping = load()
    begin(stepping, 1, 5)
    begin(stepping, 2, 5)
    engine: Any = stepping._engine
    type(engine).step_with = staticmethod(bad)
    (first, _), (second, _) = stepping.step()
    assert text in str(error_of(first))
    assert (list(first.finished), list(second.finished)) == ([1], [2])
    assert not second.HasField("error")
    assert engine.cancelled[-1] == 1
    assert not stepping.busy


def test_an_output_that_nobody_wants_may_be_left_out() -> None:
    stepping = load()
    begin(stepping, 1, 5, "y")
    type(stepping._engine).step_with = staticmethod(  # type: ignore[attr-defined]
        lambda engine: [Emission([1], {"y": np.zeros((1, 1), np.float32)})]
    )
    ((told, _),) = stepping.step()
    assert [spec.name for spec in told.outputs] == ["y"]


def failing(engine: Engine) -> list[Emission]:
    raise KeyError("broken")


def test_a_step_that_fails_fails_every_sequence_and_cancels_it() -> None:
    stepping = load()
    begin(stepping, 1, 5)
    begin(stepping, 2, 5)
    engine: Any = stepping._engine
    type(engine).step_with = staticmethod(failing)
    ((told, _),) = stepping.step()
    assert (list(told.sequences), list(told.finished)) == ([1, 2], [1, 2])
    assert "KeyError" in str(error_of(told))
    assert engine.cancelled[-2:] == [1, 2]
    assert not stepping.busy


def test_a_broken_engine_ends_the_runner() -> None:
    def broken(engine: Engine) -> list[Emission]:
        raise RunnerBroken("the device is gone")

    stepping = load()
    begin(stepping, 1, 5)
    type(stepping._engine).step_with = staticmethod(broken)  # type: ignore[attr-defined]
    with pytest.raises(RunnerBroken):
        stepping.step()


def test_a_sample_holds_all_responses_joined() -> None:
    load(sample=[0, 1, 2])
    with pytest.raises(LoadFailed, match=r"golden check: sample 0: .*element|golden check: sample 0: output"):
        load(sample=[0, 1, 5])


def test_a_model_that_fails_its_sample_is_not_loaded() -> None:
    with pytest.raises(LoadFailed, match="golden check: sample 0: the model failed: KeyError"):
        load(failing, sample=[0, 1, 2])


def test_without_a_sample_zeros_need_not_be_taken() -> None:
    load(failing)


def test_a_backend_without_an_engine_can_not_run_it() -> None:
    with pytest.raises(LoadFailed, match="can't run decoupled versions"):
        Stepping.load(command(), table(Plain))
