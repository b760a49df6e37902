"""Every engine behaves alike: sequences advance together, end once, and one that fails or is cancelled fails alone."""

import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infermesh.errors import InvalidInput, LoadFailed
from infermesh.worker import backends
from infermesh.worker.backends.base import LoadContext
from infermesh.worker.backends.engine import Decoupled, StepEngine
from tests.contract.backend_models import version

GENERATOR = """
import numpy as np

class Model:
    slots = 4
    left = []

    def infer(self, inputs):
        count, stream = int(inputs["x"][0]), int(inputs["x"][1])
        if count < 0:
            raise ValueError("count: expected 0 or more")
        try:
            for number in range(count):
                yield {"y": np.array([number], np.float32)}
        finally:
            self.left.append(stream)
"""

CLASS = """
import numpy as np

class Model:
    slots = 4

    def __init__(self):
        self.running = {}

    def add(self, sequence, inputs):
        count = int(inputs["x"][0])
        if count < 0:
            raise ValueError("count: expected 0 or more")
        self.running[sequence] = [0, count]

    def step(self):
        ended = [s for s, (at, count) in self.running.items() if at >= count]
        for sequence in ended:
            del self.running[sequence]
        given = list(self.running)
        tokens = np.array([[self.running[s][0]] for s in given], np.float32).reshape(-1, 1)
        for sequence in given:
            self.running[sequence][0] += 1
        return [(given, {"y": tokens}, ended)]

    def cancel(self, sequence):
        del self.running[sequence]
"""

SOURCES = {"generator": GENERATOR, "class": CLASS}


def described(**changes: Any) -> Any:
    made = version("python", max_batch_size=0)
    made.options["class"] = "model:Model"
    del made.signature.inputs[:], made.signature.outputs[:]
    made.signature.inputs.add(name="x", datatype="FP32", shape=[2])
    made.signature.outputs.add(name="y", datatype="FP32", shape=[1])
    made.decoupled = changes.get("decoupled", True)
    return made


def loaded(folder: Path, source: str, **changes: Any) -> Any:
    (folder / "model.py").write_text(source)
    backend = backends.table().load("python")()
    probe = {"x": np.zeros(2, np.float32)}
    backend.load(LoadContext(described(**changes), folder, "cpu", 1, allow_python=True, probe=probe))
    assert isinstance(backend, Decoupled)
    return backend


@pytest.fixture(autouse=True)
def fresh_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """The backend imports into its process, which a runner has for itself; tests share one."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "model", raising=False)


@pytest.fixture(params=SOURCES)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> StepEngine:
    made: StepEngine = loaded(tmp_path, SOURCES[request.param]).engine()
    return made


def request(count: float, stream: int = 0) -> dict[str, Any]:
    return {"x": np.array([count, stream], np.float32)}


class Seen:
    """What an engine gave, by sequence."""

    def __init__(self) -> None:
        self.tokens: dict[int, list[float]] = defaultdict(list)
        self.finished: list[int] = []

    def step(self, engine: StepEngine) -> None:
        told: set[int] = set()
        for emission in engine.step():
            assert emission.error is None
            assert told.isdisjoint(emission.sequences), "a sequence is in one emission of a step"
            told.update(emission.sequences)
            assert set(emission.finished) <= set(emission.sequences)
            for at, sequence in enumerate(emission.sequences):
                if emission.outputs:
                    assert sequence not in self.finished
                    assert emission.outputs["y"].shape == (len(emission.sequences), 1)
                    self.tokens[sequence].append(float(emission.outputs["y"][at, 0]))
            self.finished += emission.finished


def test_sequences_advance_together_and_each_ends_once(engine: StepEngine) -> None:
    seen = Seen()
    for sequence, count in ((1, 3), (2, 1), (3, 0)):
        engine.add(sequence, request(count), ["y"])
    while len(seen.finished) < 3:
        seen.step(engine)
    assert seen.tokens == {1: [0, 1, 2], 2: [0]}
    assert sorted(seen.finished) == [1, 2, 3]


def test_one_that_comes_later_advances_with_the_others(engine: StepEngine) -> None:
    seen = Seen()
    engine.add(1, request(4), ["y"])
    seen.step(engine)
    engine.add(2, request(4), ["y"])
    seen.step(engine)
    assert seen.tokens == {1: [0, 1], 2: [0]}


def test_a_cancelled_sequence_gives_nothing_more(engine: StepEngine) -> None:
    seen = Seen()
    engine.add(1, request(9), ["y"])
    engine.add(2, request(2), ["y"])
    seen.step(engine)
    engine.cancel(1)
    while 2 not in seen.finished:
        seen.step(engine)
    assert seen.tokens == {1: [0], 2: [0, 1]}
    assert seen.finished == [2]


def test_it_says_how_many_it_takes(engine: StepEngine) -> None:
    assert engine.slots() == 4


def refusal(engine: StepEngine) -> InvalidInput:
    """Returns how an engine refuses a request: at once, or in the first step."""
    try:
        engine.add(5, request(-1), ["y"])
    except InvalidInput as error:
        return error
    (emission,) = [emission for emission in engine.step() if 5 in emission.sequences]
    assert list(emission.finished) == [5]
    assert isinstance(emission.error, InvalidInput)
    return emission.error


def test_one_that_is_refused_leaves_the_others_be(engine: StepEngine) -> None:
    seen = Seen()
    engine.add(1, request(2), ["y"])
    assert "count: expected 0 or more" in refusal(engine).message
    while 1 not in seen.finished:
        seen.step(engine)
    assert seen.tokens[1] in ([0, 1], [1])  # the step in which the other was refused was one of its own, too


class TestGenerators:
    def test_a_cancelled_one_is_closed(self, tmp_path: Path) -> None:
        backend = loaded(tmp_path, GENERATOR)
        engine = backend.engine()
        engine.add(1, request(9, stream=7), ["y"])
        engine.step()
        engine.cancel(1)
        assert backend._model.left == [7]

    def test_passing_lets_the_others_go_on(self, tmp_path: Path) -> None:
        source = GENERATOR.replace("for number", "yield None\n            for number")
        engine, seen = loaded(tmp_path, source).engine(), Seen()
        engine.add(1, request(1), ["y"])
        seen.step(engine)
        assert seen.tokens == {}
        seen.step(engine)
        assert seen.tokens == {1: [0]}

    def test_a_plain_answer_is_the_only_response(self, tmp_path: Path) -> None:
        source = (
            "import numpy as np\nclass Model:\n    def infer(self, inputs):\n        return {'y': inputs['x'][:1]}\n"
        )
        engine, seen = loaded(tmp_path, source).engine(), Seen()
        engine.add(1, request(3), ["y"])
        seen.step(engine)
        seen.step(engine)
        assert (seen.tokens, seen.finished) == ({1: [3]}, [1])

    def test_responses_of_other_shapes_are_told_apart(self, tmp_path: Path) -> None:
        source = GENERATOR.replace("np.array([number], np.float32)", "np.full(1 + stream, number, np.float32)")
        engine = loaded(tmp_path, source).engine()
        for sequence in (1, 2, 3):
            engine.add(sequence, request(2, stream=sequence % 2), ["y"])
        given = {tuple(emission.sequences): emission.outputs["y"].shape for emission in engine.step()}
        assert given == {(1, 3): (2, 2), (2,): (1, 1)}


@pytest.mark.parametrize(
    ("source", "decoupled", "text"),
    [
        (GENERATOR, False, "push the version as a decoupled one"),
        ("class Model: pass", True, r"expected a method infer\(inputs\), or add, step and cancel"),
        (
            "class Model:\n    slots = 0\n    def infer(self, inputs): yield {}",
            True,
            "slots: expected an integer above",
        ),
    ],
    ids=["not declared", "no method", "no slots"],
)
def test_what_can_not_run_is_refused_at_load(tmp_path: Path, source: str, decoupled: bool, text: str) -> None:
    with pytest.raises(LoadFailed, match=text):
        loaded(tmp_path, source, decoupled=decoupled).engine()
