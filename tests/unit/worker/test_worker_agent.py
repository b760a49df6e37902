"""The agent: what it tells the scheduler, and how it follows."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from infermesh.errors import NotReady
from infermesh.testing.clock import FakeClock
from infermesh.v1 import scheduler_service_pb2, worker_pb2
from infermesh.worker.agent import Agent, Identity
from infermesh.worker.device import DeviceInfo
from tests.unit.worker.worker_fakes import measures

State = worker_pb2.HeldVersion


class FakeScheduler:
    """Answers with what the test wants; `away` makes it fail."""

    def __init__(self) -> None:
        self.wanted: list[worker_pb2.Assignment] = []
        self.authoritative = True
        self.away = False
        self.heard: list[scheduler_service_pb2.HeartbeatRequest] = []
        self.tries = 0

    async def heartbeat(
        self, request: scheduler_service_pb2.HeartbeatRequest
    ) -> scheduler_service_pb2.HeartbeatResponse:
        self.tries += 1
        if self.away:
            raise NotReady("away")
        self.heard.append(request)
        answer = scheduler_service_pb2.HeartbeatResponse(assignments=self.wanted, authoritative=self.authoritative)
        answer.interval.FromMilliseconds(5)
        return answer


class FakeHolding:
    """A holding whose state the test sets."""

    def __init__(self, assignment: worker_pb2.Assignment, changed: Callable[[], None]) -> None:
        self.assignment, self.changed = assignment, changed
        self.digest = assignment.digest
        self.memory_bytes = 100
        self.state: Any = State.LOADING
        self.updates: list[worker_pb2.Assignment] = []
        self.left = asyncio.Event()
        self.gone = asyncio.Event()

    def report(self) -> worker_pb2.HeldVersion:
        number = self.assignment.version.rpartition("/")[2]
        return worker_pb2.HeldVersion(
            deployment=self.assignment.deployment, version=number, digest=self.digest, state=self.state
        )

    @property
    def settled(self) -> bool:
        return bool(self.state != State.LOADING)

    def update(self, assignment: worker_pb2.Assignment) -> None:
        self.updates.append(assignment)

    def leave(self) -> None:
        self.left.set()

    async def live(self) -> None:
        await self.left.wait()
        await self.gone.wait()


class FakeMemory:
    """Remembers in memory."""

    def __init__(self) -> None:
        self.kept: list[worker_pb2.Assignment] = []

    async def assignments(self) -> Sequence[worker_pb2.Assignment]:
        return self.kept

    async def keep(self, assignments: Sequence[worker_pb2.Assignment]) -> None:
        self.kept = list(assignments)


class Setting:
    def __init__(self, memory_limit: int = 0) -> None:
        self.scheduler = FakeScheduler()
        self.memory = FakeMemory()
        self.holdings: list[FakeHolding] = []
        identity = Identity("w", "1.2.3.4:5", "inc", ["onnx"], 2.0, {"zone": "a"}, memory_limit)
        self.agent = Agent(
            identity,
            self.scheduler,
            self._hold,  # type: ignore[arg-type]
            lambda: DeviceInfo("cpu", 0, "a cpu", 1000, 800),
            FakeClock(),
            measures(),
            self.memory,
        )
        self.running: asyncio.Task[None] | None = None

    def _hold(self, assignment: worker_pb2.Assignment, changed: Callable[[], None]) -> FakeHolding:
        holding = FakeHolding(assignment, changed)
        self.holdings.append(holding)
        return holding

    async def until(self, seen: Callable[[], object]) -> None:
        async with asyncio.timeout(10):
            while not seen():  # noqa: ASYNC110 - what is seen differs from test to test
                await asyncio.sleep(0.001)

    async def beats(self, count: int = 2) -> None:
        """Waits for heartbeats that were built after now."""
        heard = len(self.scheduler.heard)
        await self.until(lambda: len(self.scheduler.heard) > heard + count)


@pytest.fixture
async def setting() -> AsyncIterator[Setting]:
    made = Setting()
    made.running = asyncio.create_task(made.agent.run())
    yield made
    for holding in made.holdings:
        holding.gone.set()
    await asyncio.wait_for(made.agent.stop(1.0), 5)
    await asyncio.wait_for(made.running, 5)


def assignment(number: int = 1, digest: str = "a", deployment: str = "d") -> worker_pb2.Assignment:
    return worker_pb2.Assignment(deployment=deployment, version=f"models/m/versions/{number}", digest=digest)


async def test_says_who_it_is(setting: Setting) -> None:
    await setting.beats()
    worker = setting.scheduler.heard[-1].worker
    assert (worker.name, worker.address, worker.incarnation, worker.weight) == ("workers/w", "1.2.3.4:5", "inc", 2.0)
    assert (worker.device.kind, worker.device.memory_total_bytes, worker.device.memory_free_bytes) == ("cpu", 1000, 800)
    assert (list(worker.backends), dict(worker.labels), worker.draining) == (["onnx"], {"zone": "a"}, False)


async def test_holds_what_is_wanted_and_nothing_else(setting: Setting) -> None:
    setting.scheduler.wanted = [assignment(1), assignment(2)]
    await setting.until(lambda: len(setting.holdings) == 2)
    setting.scheduler.wanted = [assignment(2)]
    await setting.until(setting.holdings[0].left.is_set)
    await setting.beats()
    assert not setting.holdings[1].left.is_set()
    held = {one.version for one in setting.scheduler.heard[-1].worker.held}
    assert held == {"1", "2"}, "what is unloading is still told"
    setting.holdings[0].gone.set()
    await setting.until(lambda: [one.version for one in setting.scheduler.heard[-1].worker.held] == ["2"])
    assert len(setting.holdings) == 2


async def test_a_version_may_serve_two_deployments(setting: Setting) -> None:
    setting.scheduler.wanted = [assignment(deployment="d"), assignment(deployment="e")]
    await setting.until(lambda: len(setting.holdings) == 2)


async def test_a_failed_holding_is_kept_and_not_begun_again(setting: Setting) -> None:
    setting.scheduler.wanted = [assignment()]
    await setting.until(lambda: setting.holdings)
    setting.holdings[0].state = State.FAILED
    await setting.beats(5)
    assert len(setting.holdings) == 1
    assert setting.scheduler.heard[-1].worker.held[0].state == State.FAILED


async def test_another_digest_replaces_once_the_old_one_is_gone(setting: Setting) -> None:
    setting.scheduler.wanted = [assignment(digest="a")]
    await setting.until(lambda: setting.holdings)
    setting.scheduler.wanted = [assignment(digest="b")]
    await setting.until(setting.holdings[0].left.is_set)
    await setting.beats()
    assert len(setting.holdings) == 1
    setting.holdings[0].gone.set()
    await setting.until(lambda: len(setting.holdings) == 2)
    assert setting.holdings[1].digest == "b"


async def test_an_answer_without_authority_changes_nothing(setting: Setting) -> None:
    setting.scheduler.wanted = [assignment(1)]
    await setting.until(lambda: setting.holdings)
    setting.scheduler.authoritative = False
    setting.scheduler.wanted = [assignment(2)]
    await setting.beats(4)
    assert len(setting.holdings) == 1
    assert not setting.holdings[0].left.is_set()


async def test_keeps_what_it_has_while_the_scheduler_is_away(setting: Setting) -> None:
    setting.scheduler.wanted = [assignment(1)]
    await setting.until(lambda: setting.holdings)
    setting.scheduler.away = True
    tries = setting.scheduler.tries
    await setting.until(lambda: setting.scheduler.tries > tries + 2)
    assert not setting.holdings[0].left.is_set()
    setting.scheduler.away = False
    setting.scheduler.wanted = []
    await setting.until(setting.holdings[0].left.is_set)


@contextlib.asynccontextmanager
async def running(setting: Setting) -> AsyncIterator[None]:
    """Runs the agent of a setting that was prepared first."""
    task = asyncio.create_task(setting.agent.run())
    try:
        yield
    finally:
        for holding in setting.holdings:
            holding.gone.set()
        await asyncio.wait_for(setting.agent.stop(1.0), 5)
        await asyncio.wait_for(task, 5)


@pytest.mark.parametrize("trouble", ["away", "undecided"])
async def test_holds_what_it_held_in_its_last_life_until_the_scheduler_knows_better(trouble: str) -> None:
    setting = Setting()
    setting.memory.kept = [assignment(1), assignment(2)]
    setting.scheduler.away, setting.scheduler.authoritative = trouble == "away", trouble == "away"
    setting.scheduler.wanted = [assignment(2)]
    async with running(setting):
        await setting.until(lambda: len(setting.holdings) == 2)
        assert setting.memory.kept == [assignment(1), assignment(2)]
        setting.scheduler.away, setting.scheduler.authoritative = False, True
        await setting.until(setting.holdings[0].left.is_set)
        assert not setting.holdings[1].left.is_set()
        await setting.until(lambda: setting.memory.kept == [assignment(2)])


async def test_an_answer_counts_more_than_memory() -> None:
    setting = Setting()
    setting.memory.kept = [assignment(1)]
    setting.scheduler.wanted = [assignment(2)]
    async with running(setting):
        await setting.until(lambda: setting.memory.kept == [assignment(2)])
        setting.scheduler.away = True
        await setting.until(lambda: setting.scheduler.tries > 6)
    assert [holding.assignment for holding in setting.holdings] == [assignment(2)]


async def test_it_is_settled_when_everything_is_loaded_or_has_failed() -> None:
    setting = Setting()
    setting.scheduler.wanted = [assignment(1), assignment(2)]
    async with running(setting):
        settled = asyncio.create_task(setting.agent.settled())
        await setting.until(lambda: len(setting.holdings) == 2)
        setting.holdings[0].state = State.READY
        await setting.beats()
        assert not settled.done()
        setting.holdings[1].state = State.FAILED
        await asyncio.wait_for(settled, 5)


async def test_it_is_not_settled_before_it_is_told_what_to_hold() -> None:
    setting = Setting()
    setting.scheduler.away = True
    async with running(setting):
        settled = asyncio.create_task(setting.agent.settled())
        await setting.until(lambda: setting.scheduler.tries > 2)
        setting.scheduler.away, setting.scheduler.authoritative = False, False
        await setting.beats()
        assert not settled.done()
        setting.scheduler.authoritative = True
        await asyncio.wait_for(settled, 5)


async def test_it_is_not_settled_before_the_scheduler_has_heard_what_it_holds() -> None:
    setting = Setting()
    setting.scheduler.wanted = [assignment()]
    async with running(setting):
        settled = asyncio.create_task(setting.agent.settled())
        await setting.until(lambda: setting.holdings)
        setting.scheduler.away = True
        setting.holdings[0].state = State.READY
        tries = setting.scheduler.tries
        await setting.until(lambda: setting.scheduler.tries > tries + 2)
        assert not settled.done()
        setting.scheduler.away = False
        await asyncio.wait_for(settled, 5)


async def test_without_a_scheduler_it_is_settled_by_what_it_remembers() -> None:
    setting = Setting()
    setting.scheduler.away, setting.memory.kept = True, [assignment(1)]
    async with running(setting):
        settled = asyncio.create_task(setting.agent.settled())
        await setting.until(lambda: setting.holdings)
        assert not settled.done()
        setting.holdings[0].state = State.READY
        await asyncio.wait_for(settled, 5)


async def test_an_assignment_that_makes_no_sense_does_not_stop_the_others(setting: Setting) -> None:
    nonsense = worker_pb2.Assignment(deployment="d", version="what/ever", digest="x")
    setting.scheduler.wanted = [nonsense, assignment(2)]
    await setting.until(lambda: setting.holdings)
    assert setting.holdings[0].assignment.version.endswith("/2")


async def test_changed_batching_is_passed_on(setting: Setting) -> None:
    setting.scheduler.wanted = [assignment()]
    await setting.until(lambda: setting.holdings)
    changed = assignment()
    changed.batching.max_batch_size = 7
    setting.scheduler.wanted = [changed]
    await setting.until(lambda: any(one.batching.max_batch_size == 7 for one in setting.holdings[0].updates))


async def test_a_change_is_told_at_once() -> None:
    setting = Setting()
    setting.scheduler.wanted = [assignment()]
    slow = setting.scheduler.heartbeat

    async def heartbeat(request: Any) -> Any:
        answer = await slow(request)
        answer.interval.FromSeconds(3600)
        return answer

    setting.scheduler.heartbeat = heartbeat  # type: ignore[method-assign]
    running = asyncio.create_task(setting.agent.run())
    await setting.until(lambda: len(setting.scheduler.heard) == 2)  # the second tells of LOADING
    setting.holdings[0].state = State.READY
    setting.holdings[0].changed()
    await setting.until(lambda: setting.scheduler.heard[-1].worker.held[0].state == State.READY)
    setting.holdings[0].gone.set()
    await setting.agent.stop(1.0)
    await asyncio.wait_for(running, 5)


async def test_a_draining_worker_says_so_and_follows_no_longer(setting: Setting) -> None:
    setting.scheduler.wanted = [assignment(1)]
    await setting.until(lambda: setting.holdings)
    setting.agent.drain()
    setting.scheduler.wanted = [assignment(2)]
    await setting.beats(3)
    assert setting.scheduler.heard[-1].worker.draining
    assert not setting.scheduler.heard[-1].leaving
    assert len(setting.holdings) == 1
    assert not setting.holdings[0].left.is_set(), "it is served on until the process leaves"


async def test_stop_says_goodbye_and_unloads_everything() -> None:
    setting = Setting()
    setting.scheduler.wanted = [assignment(1), assignment(2)]
    running = asyncio.create_task(setting.agent.run())
    await setting.until(lambda: len(setting.holdings) == 2)
    for holding in setting.holdings:
        holding.gone.set()
    await asyncio.wait_for(setting.agent.stop(1.0), 5)
    await asyncio.wait_for(running, 5)
    assert all(holding.left.is_set() for holding in setting.holdings)
    assert setting.scheduler.heard[-1].leaving


async def test_stop_does_not_wait_for_a_scheduler_that_is_away() -> None:
    setting = Setting()
    setting.scheduler.away = True
    running = asyncio.create_task(setting.agent.run())
    await setting.until(lambda: setting.scheduler.tries > 1)
    await asyncio.wait_for(setting.agent.stop(1.0), 5)
    await asyncio.wait_for(running, 5)


async def test_a_memory_limit_is_what_the_scheduler_sees() -> None:
    setting = Setting(memory_limit=300)
    setting.scheduler.wanted = [assignment()]
    running = asyncio.create_task(setting.agent.run())
    await setting.until(lambda: len(setting.scheduler.heard) > 3)
    device = setting.scheduler.heard[-1].worker.device
    assert (device.memory_total_bytes, device.memory_free_bytes) == (300, 200)
    setting.holdings[0].gone.set()
    await setting.agent.stop(1.0)
    await asyncio.wait_for(running, 5)
