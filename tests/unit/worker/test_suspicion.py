"""What a worker makes of a runner that dies: who is suspect, who is proven guilty, who goes on."""

import asyncio
import struct
from collections.abc import Sequence
from typing import cast

from infermesh.errors import ModelFailed, QueryOfDeath, RunnerDied, WorkerLost
from infermesh.mesh.fingerprint import fingerprint
from infermesh.v1 import runner_pb2
from infermesh.worker import suspicion
from infermesh.worker.calls import Call
from infermesh.worker.frames import Buffer
from infermesh.worker.models import HeldModel
from infermesh.worker.runner import LoadReport, Runner
from infermesh.worker.suspicion import Suspicion
from tests.unit.worker.worker_fakes import Clock, FakeRunner, call_of, held, request_of, turns, version_of

DEATH = RunnerDied("died", metadata={"ended": "exit status 3"})
KILLED = RunnerDied("died", metadata={"ended": "killed by SIGKILL"})


def payload(value: float, id: str = "") -> bytes:
    return request_of(1, value, id=id).SerializeToString()


def submit(model: HeldModel, value: float, *, alone: bool = False) -> asyncio.Future[Call]:
    call, answer = call_of(model, 100.0, value=value)
    call.payload, call.alone = payload(value), alone
    model.submit(call)
    return answer


def served(runner: FakeRunner | None = None) -> tuple[HeldModel, FakeRunner]:
    model, runner = held(Clock()), runner or FakeRunner(times=((1, 0.0001), (8, 0.0001)))
    model.attach(runner)
    return model, runner


async def batch(model: HeldModel, *values: float) -> list[asyncio.Future[Call]]:
    answers = [submit(model, value) for value in values]
    await turns()
    return answers


async def die(model: HeldModel, runner: FakeRunner, at: int = -1, death: RunnerDied = DEATH) -> None:
    """The runner dies executing a batch; a new one comes."""
    runner.fail(at, death)
    await turns()
    model.detach(WorkerLost("died"))


async def errors(answers: list[asyncio.Future[Call]]) -> list[type]:
    return [type((await answer).error) for answer in answers]


async def test_every_call_of_a_batch_that_the_runner_dies_on_is_suspect() -> None:
    model, runner = served()
    answers = await batch(model, 1.0, 2.0)
    await die(model, runner)
    assert await errors(answers) == [RunnerDied, RunnerDied]
    told = model.suspicion.message("d/1")
    assert set(told.suspects) == {fingerprint(payload(1.0)), fingerprint(payload(2.0))}
    assert (list(told.quarantined), told.crashed) == ([], True)


async def test_a_version_without_a_runner_is_not_ready_before_anybody_else_has_noticed() -> None:
    model, runner = served()
    await batch(model, 1.0)
    runner.fail(0, DEATH)
    await turns()
    assert not model.ready
    assert model.credit == 0


async def test_what_was_behind_the_deadly_batch_was_not_begun_and_is_no_suspect() -> None:
    model, runner = served()
    first = await batch(model, *[1.0] * 8)
    second = await batch(model, *[2.0] * 8)
    assert len(runner.runs) == 2
    runner.fail(0, DEATH)
    runner.fail(1, WorkerLost("ended"))
    await turns()
    assert await errors(second) == [WorkerLost] * 8
    assert [(await answer).not_started for answer in (*first, *second)] == [False] * 8 + [True] * 8
    assert list(model.suspicion.message("d/1").suspects) == [fingerprint(payload(1.0))]


async def test_a_runner_that_dies_with_nothing_to_do_accuses_nobody() -> None:
    model, _ = served()
    model.detach(WorkerLost("died"))
    assert not model.suspicion.any
    assert model.suspicion.revision == 0


async def test_a_runner_that_is_closed_accuses_nobody() -> None:
    model, runner = served()
    answers = await batch(model, 1.0)
    model.detach(WorkerLost("unloaded"))
    runner.fail(0, WorkerLost("it was closed"))
    assert await errors(answers) == [WorkerLost]
    assert not (await answers[0]).not_started, "nobody knows how far it came"
    assert not model.suspicion.any


async def test_suspects_and_what_asks_the_same_run_alone_while_others_share_a_batch() -> None:
    model, runner = served()
    await batch(model, 1.0, 2.0)
    await die(model, runner)
    runner = FakeRunner(times=((1, 1.0), (8, 1.0)))
    model.attach(runner)
    for value in (1.0, 2.0, 3.0, 4.0, 1.0):
        submit(model, value)
    await turns()
    sizes = []
    for at in range(4):
        sizes.append(runner.rows(at))
        runner.answer(at)
        await turns()
    assert sorted(sizes) == [1, 1, 1, 2]


async def test_a_call_that_shall_be_alone_is_alone() -> None:
    model, runner = served(FakeRunner(times=((1, 1.0), (8, 1.0))))
    submit(model, 9.0)
    await turns()
    answers = [submit(model, 1.0), submit(model, 2.0, alone=True), submit(model, 3.0)]
    for at in range(3):
        runner.answer(at)
        await turns()
    assert [runner.rows(at) for at in range(3)] == [1, 2, 1]
    assert [(await answer).error for answer in answers] == [None] * 3


async def test_a_suspect_that_passes_is_none_any_more() -> None:
    model, runner = served()
    await batch(model, 1.0, 2.0)
    await die(model, runner)
    model.attach(FakeRunner(echo=True))
    assert (await submit(model, 1.0)).error is None
    assert list(model.suspicion.message("d/1").suspects) == [fingerprint(payload(2.0))]


async def test_a_suspect_that_the_model_fails_on_without_dying_is_none_any_more() -> None:
    model, runner = served()
    await batch(model, 1.0)
    await die(model, runner)
    runner = FakeRunner()
    model.attach(runner)
    [answer] = await batch(model, 1.0)
    runner.fail(0, ModelFailed("no"))
    assert isinstance((await answer).error, ModelFailed)
    assert not model.suspicion.any


async def test_a_runner_that_dies_on_a_suspect_alone_proves_it_and_its_copies_are_refused() -> None:
    model, runner = served()
    await batch(model, 1.0, 2.0)
    await die(model, runner)
    runner = FakeRunner(times=((1, 1.0), (8, 1.0)))
    model.attach(runner)
    guilty, copy, innocent = await batch(model, 1.0, 1.0, 2.0)
    await die(model, runner, 0)
    assert await errors([guilty, copy, innocent]) == [QueryOfDeath, QueryOfDeath, WorkerLost]
    assert (await innocent).not_started, "it only waited"
    told = model.suspicion.message("d/1")
    assert list(told.quarantined) == [fingerprint(payload(1.0))]
    assert list(told.suspects) == [fingerprint(payload(2.0))]
    model.attach(FakeRunner(echo=True))
    late, other = await batch(model, 1.0, 3.0)
    assert await errors([late, other]) == [QueryOfDeath, type(None)]
    refusal = (await late).error
    assert isinstance(refusal, QueryOfDeath)
    assert refusal.metadata == {"model": "d", "version": "1"}
    assert model.suspicion.quarantined == 1


async def test_what_was_alone_by_chance_is_only_suspect() -> None:
    model, runner = served()
    answers = await batch(model, 1.0)
    await die(model, runner, death=KILLED)
    assert await errors(answers) == [RunnerDied]
    told = model.suspicion.message("d/1")
    assert (len(told.suspects), len(told.quarantined), told.crashed) == (1, 0, False)


async def test_without_suspects_no_request_is_looked_into(monkeypatch) -> None:
    model, _ = served(FakeRunner(echo=True))

    def looked(*_: object) -> bytes:
        raise AssertionError("nothing is suspect")

    monkeypatch.setattr(suspicion, "fingerprint", looked)
    monkeypatch.setattr(suspicion.Fingerprints, "match", looked)
    assert (await submit(model, 1.0)).error is None


async def test_suspects_that_nobody_asks_again_are_forgotten_some_time_after_the_runner_is_back(monkeypatch) -> None:
    monkeypatch.setattr(suspicion, "_UNTRIED", 0.01)
    changes: list[int] = []
    known = Suspicion("d", "1", lambda: changes.append(1))
    known.suspect([payload(1.0)], DEATH)
    await asyncio.sleep(0.03)
    assert known.suspected(payload(1.0)), "the runner is not back"
    known.runner_is_back()
    known.suspect([payload(2.0)], DEATH)
    await asyncio.sleep(0.03)
    assert known.suspected(payload(1.0)), "it died again meanwhile"
    known.runner_is_back()
    await asyncio.sleep(0.03)
    assert not known.any
    assert len(changes) == known.revision == 3


async def test_the_tables_are_bounded() -> None:
    known = Suspicion("d", "1", lambda: None)
    known.suspect([payload(float(at)) for at in range(5000)], DEATH)
    for at in range(300):
        known.convict(payload(10_000.0 + at))
    told = known.message("d/1")
    assert (len(told.suspects), len(told.quarantined)) == (4096, 256)
    assert not known.suspected(payload(0.0))
    assert known.suspected(payload(4999.0))
    assert known.refusal(payload(10_000.0)) is None
    assert known.refusal(payload(10_299.0)) is not None


class FakeEngine(FakeRunner):
    """A runner of a decoupled version: sequences begin and end by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.report = LoadReport(0, (), 8)
        self.begun: list[float] = []
        self.emitted = lambda emissions, payload: None

    def begin(self, inputs: Sequence[Buffer], outputs: Sequence[str] = ()) -> int:
        self.begun.append(struct.unpack("<f", bytes(inputs[0].parts[0])[:4])[0])
        return len(self.begun)

    def end(self, number: int) -> None:
        self.emitted([runner_pb2.Emission(sequences=[number], finished=[number])], memoryview(b""))

    def forget(self, number: int) -> None:
        """Nothing else comes of it anyway."""


async def sequences(engine: FakeEngine) -> HeldModel:
    version = version_of(inputs=[("x", "FP32", (1, 2))], max_batch_size=0)
    version.decoupled = True
    model = held(Clock(), version)
    model.attach(cast(Runner, engine))
    return model


async def test_sequences_under_way_when_the_runner_dies_are_suspect_and_one_that_waits_is_not() -> None:
    model = await sequences(FakeEngine())
    answers = await batch(model, *[float(at) for at in range(9)])
    model.detach(DEATH)
    assert await errors(answers) == [RunnerDied] * 8 + [WorkerLost]
    assert len(model.suspicion.message("d/1").suspects) == 8


async def test_a_suspect_sequence_has_the_engine_for_itself() -> None:
    model = await sequences(FakeEngine())
    await batch(model, 1.0, 2.0)
    model.detach(DEATH)
    engine = FakeEngine()
    model.attach(cast(Runner, engine))
    answers = await batch(model, 3.0, 1.0, 4.0)
    assert engine.begun == [3.0]
    engine.end(1)
    await turns()
    assert engine.begun == [3.0, 1.0]
    engine.end(2)
    await turns()
    assert engine.begun == [3.0, 1.0, 4.0]
    engine.end(3)
    assert await errors(answers) == [type(None)] * 3
    assert list(model.suspicion.message("d/1").suspects) == [fingerprint(payload(2.0))]


async def test_a_suspect_sequence_that_kills_the_engine_again_is_refused() -> None:
    model = await sequences(FakeEngine())
    await batch(model, 1.0, 2.0)
    model.detach(DEATH)
    model.attach(cast(Runner, FakeEngine()))
    guilty, copy = await batch(model, 1.0, 1.0)
    model.detach(DEATH)
    assert await errors([guilty, copy]) == [QueryOfDeath] * 2
