"""The life of an assignment: what is fetched, tried again, given up, recovered and unloaded."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from infermesh.errors import DataLoss, InvalidInput, LoadFailed, MeshError, NotFound, NotReady, WorkerLost
from infermesh.testing.clock import FakeClock
from infermesh.v1 import model_pb2, worker_pb2
from infermesh.worker.artifacts import ArtifactCache
from infermesh.worker.holding import Holding, Tools
from infermesh.worker.runner import RunnerSpec
from infermesh.worker.serving import Serving
from tests.unit.worker.worker_fakes import DIGEST, FakeRunner, call_of, measures, turns, version_of

State = worker_pb2.HeldVersion


class Registry:
    """A source that fails as often as it is told."""

    def __init__(self) -> None:
        self.troubles: list[Exception] = []
        self.current = version_of()
        self.asked = 0

    async def version(self, name: str, digest: str) -> model_pb2.ModelVersion:
        self.asked += 1
        if self.troubles:
            raise self.troubles.pop(0)
        return self.current

    async def download(self, digest: str, offset: int) -> AsyncIterator[bytes]:
        yield b""


class Setting:
    """One holding with everything around it faked but the cache."""

    def __init__(self, folder: Path) -> None:
        self.clock, self.serving, self.registry = FakeClock(), Serving(), Registry()
        self.cache = ArtifactCache(folder)
        self.runners: list[FakeRunner] = []
        self.specs: list[RunnerSpec] = []
        self.starting: Callable[[RunnerSpec], Awaitable[FakeRunner]] = self._start
        self.states: list[Any] = []
        self.assignment = worker_pb2.Assignment(deployment="d", version="models/m/versions/1", digest=DIGEST)
        self.loads = asyncio.Semaphore(2)
        self.holding = self.hold()
        self.life: asyncio.Task[None] | None = None

    def hold(self) -> Holding:
        tools = Tools(
            self.registry,
            self.cache,
            self.serving,
            measures(),
            self.clock,
            lambda spec: self.starting(spec),  # type: ignore[arg-type, return-value]
            self.loads,
            lambda version, files: RunnerSpec(version, files),
            unload_timeout=5.0,
        )
        return Holding(self.assignment, tools, lambda: self.states.append(self.holding.report().state))

    async def _start(self, spec: RunnerSpec) -> FakeRunner:
        self.specs.append(spec)
        runner = FakeRunner(memory=4711, times=((1, 1.0),))
        self.runners.append(runner)
        return runner

    def begin(self) -> None:
        self.life = asyncio.create_task(self.holding.live())

    async def until(self, state: Any) -> worker_pb2.HeldVersion:
        async with asyncio.timeout(10):
            while self.holding.report().state != state:  # noqa: ASYNC110 - files are laid out in a thread
                await asyncio.sleep(0.001)
        return self.holding.report()

    async def end(self) -> None:
        assert self.life is not None
        self.holding.leave()
        await asyncio.wait_for(self.life, 10)


@pytest.fixture
async def setting(tmp_path: Path) -> AsyncIterator[Setting]:
    made = Setting(tmp_path)
    made.begin()
    yield made
    await made.end()
    made.cache.close()


async def test_loads_serves_and_unloads(setting: Setting) -> None:
    report = await setting.until(State.READY)
    assert (report.deployment, report.version, report.digest) == ("d", "1", DIGEST)
    assert report.memory_bytes == 4711
    model = setting.serving.get("d/1")
    assert model is not None
    assert model.ready
    await setting.end()
    assert setting.runners[0].closed
    assert setting.serving.get("d/1") is None
    assert not setting.specs[0].folder.exists()
    assert setting.states == [State.READY, State.UNLOADING]


@pytest.mark.parametrize("trouble", [NotReady("registry away"), WorkerLost("cut"), OSError("disk"), DataLoss("once")])
async def test_passing_trouble_is_tried_again_and_stays_loading(setting: Setting, trouble: Exception) -> None:
    await setting.end()
    setting.registry.troubles = [trouble, trouble]
    setting.registry.asked = 0
    setting.states.clear()
    setting.holding = setting.hold()
    setting.begin()
    for _ in range(3):
        await setting.clock.advance(1.0)
    await setting.until(State.READY)
    assert setting.registry.asked == 3
    assert State.FAILED not in setting.states


async def test_a_version_that_can_not_be_loaded_is_not_waited_for_for_ever(setting: Setting) -> None:
    await setting.end()
    setting.registry.troubles = [NotReady("registry away")] * 7
    setting.holding = setting.hold()
    setting.begin()
    for _ in range(15):
        await setting.clock.advance(1.0)
    assert (setting.holding.state, setting.holding.settled) == (State.LOADING, False)
    for _ in range(25):
        await setting.clock.advance(1.0)
    await setting.until(State.READY)
    assert setting.holding.settled


@pytest.fixture
async def later(tmp_path: Path) -> AsyncIterator[Setting]:
    """A setting that the test begins itself."""
    made = Setting(tmp_path)
    yield made
    if made.life is not None:
        await made.end()
    made.cache.close()


@pytest.mark.parametrize(
    ("trouble", "says"),
    [
        (NotFound.of("version", "models/m/versions/1"), "not found"),
        (InvalidInput("no name"), "no name"),
        (LoadFailed("tensor 'y' is off"), "tensor 'y'"),
    ],
)
async def test_lasting_trouble_is_failed_with_its_reason_and_not_tried_again(
    later: Setting, trouble: MeshError, says: str
) -> None:
    later.registry.troubles = [trouble]
    later.begin()
    report = await later.until(State.FAILED)
    assert says in report.reason
    await later.clock.advance(100)
    assert later.registry.asked == 1


async def test_a_golden_check_that_fails_is_told_and_serves_nothing(later: Setting) -> None:
    async def refuse(spec: RunnerSpec) -> FakeRunner:
        raise LoadFailed("golden check: tensor 'y' differs")

    later.starting = refuse
    later.begin()
    assert "golden check" in (await later.until(State.FAILED)).reason
    assert later.serving.get("d/1") is None


async def test_another_digest_than_assigned_is_not_loaded(later: Setting) -> None:
    later.registry.current.digest = "sha256:" + "b" * 64
    later.begin()
    assert "expected digest" in (await later.until(State.FAILED)).reason
    assert not later.runners


async def test_damaged_files_are_given_up_after_three_tries(later: Setting) -> None:
    later.registry.troubles = [DataLoss("wrong bytes")] * 5
    later.begin()
    for _ in range(5):
        await later.clock.advance(5)
    assert "wrong bytes" in (await later.until(State.FAILED)).reason
    assert later.registry.asked == 3


async def test_a_fault_of_ours_is_failed_without_its_text(later: Setting) -> None:
    later.registry.troubles = [RuntimeError("secret")]
    later.begin()
    assert "secret" not in (await later.until(State.FAILED)).reason


async def test_a_dead_runner_is_replaced_and_what_waited_is_given_back(setting: Setting) -> None:
    await setting.until(State.READY)
    model = setting.serving.get("d/1")
    assert model is not None
    calls = []
    for _ in range(2):  # the first is with the runner, the second waits
        call, answer = call_of(model, setting.clock.time())
        model.submit(call)
        calls.append(answer)
        await turns()
    setting.runners[0].died.set_result("signal 9")
    await setting.until(State.LOADING)
    assert not model.ready
    lost = [await answer for answer in calls]
    assert [type(call.error) for call in lost] == [WorkerLost, WorkerLost]
    assert [call.not_started for call in lost] == [False, True]
    assert setting.runners[0].closed
    await setting.clock.advance(1)
    await setting.until(State.READY)
    assert model.ready
    assert len(setting.runners) == 2
    assert setting.specs[0].folder == setting.specs[1].folder, "nothing is fetched again"
    assert setting.registry.asked == 1


async def test_a_runner_that_dies_again_and_again_is_restarted_ever_more_slowly(setting: Setting) -> None:
    began = []
    for count in range(1, 6):
        await setting.until(State.READY)
        began.append(setting.clock.time())
        setting.runners[-1].died.set_result("signal 11")
        await setting.until(State.LOADING)
        while len(setting.runners) == count:
            await setting.clock.advance(0.05)
    pauses = [b - a for a, b in pairwise(began)]
    assert pauses == sorted(pauses)
    assert pauses[-1] > 5 * pauses[0]


async def test_a_runner_that_does_not_come_back_ends_in_failed(setting: Setting) -> None:
    await setting.until(State.READY)
    tries = 0

    async def refuse(spec: RunnerSpec) -> FakeRunner:
        nonlocal tries
        tries += 1
        raise LoadFailed("no memory")

    setting.starting = refuse
    setting.runners[0].died.set_result("signal 9")
    await setting.until(State.LOADING)
    for _ in range(20):
        await setting.clock.advance(5)
    assert "no memory" in (await setting.until(State.FAILED)).reason
    assert 1 < tries < 10


async def test_unloading_waits_for_what_is_under_way_but_not_for_ever(setting: Setting) -> None:
    await setting.until(State.READY)
    model = setting.serving.get("d/1")
    assert model is not None
    call, answer = call_of(model, setting.clock.time())
    model.submit(call)
    await asyncio.sleep(0)
    setting.holding.leave()
    await setting.until(State.UNLOADING)
    assert not model.ready
    assert not setting.runners[0].closed
    setting.runners[0].answer(0)
    assert (await answer).error is None
    await setting.end()
    assert setting.runners[0].closed


async def test_leaving_while_it_loads_stops_the_load(later: Setting) -> None:
    hanging = asyncio.Event()

    async def hang(spec: RunnerSpec) -> FakeRunner:
        hanging.set()
        await asyncio.Event().wait()
        raise AssertionError

    later.starting = hang
    later.begin()
    await hanging.wait()
    await later.end()
    assert later.loads._value == 2, "the place for other loads is free again"


async def test_loads_are_bounded(later: Setting) -> None:
    later.loads = asyncio.Semaphore(0)
    later.holding = later.hold()
    later.begin()
    await later.clock.settle()
    assert later.registry.asked == 0
    later.loads.release()
    await later.until(State.READY)
    assert later.loads._value == 1, "what is ready no longer counts as loading"


async def test_changed_batching_reaches_the_model(setting: Setting) -> None:
    await setting.until(State.READY)
    changed = worker_pb2.Assignment()
    changed.CopyFrom(setting.assignment)
    changed.batching.max_batch_size = 3
    setting.holding.update(changed)
    model = setting.serving.get("d/1")
    assert model is not None
    assert model._limit == 3
