"""When plans are made, and who hears of them; in virtual time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
import structlog.testing
from prometheus_client import CollectorRegistry

from infermesh.mesh.metrics import SchedulerMetrics
from infermesh.scheduler.control import Control
from infermesh.scheduler.fleet import Fleet
from infermesh.scheduler.placement.base import Candidate, Need
from infermesh.scheduler.placement.spread import Spread
from infermesh.scheduler.renewal import Renewal
from infermesh.testing.clock import FakeClock
from infermesh.v1.deployment_pb2 import Deployment
from tests.unit.scheduler.build import deployment, desired, ready, worker


class Counting(Spread):
    """Counts what it is asked; raises while it is told to."""

    def __init__(self) -> None:
        self.asked = 0
        self.broken = False

    def score(self, need: Need, candidate: Candidate) -> tuple[float, ...]:
        self.asked += 1
        if self.broken:
            raise ZeroDivisionError
        return super().score(need, candidate)


class Stage:
    """A scheduler without network, settled from the start."""

    def __init__(self, settling: float = 0.0) -> None:
        self.clock = FakeClock()
        self.policy = Counting()
        self.registry = CollectorRegistry()
        now = self.clock.time()
        self.control = Control(Fleet(1.0, now), self.policy, epoch="e", settled_at=now + settling)
        self.renewal = Renewal(self.control, 1.0, self.clock, SchedulerMetrics(self.registry))

    async def hear(self, *workers: object, leaving: bool = False) -> list[list[str] | None]:
        """Sends heartbeats at the same time; returns the targets in the answers."""
        calls = [asyncio.ensure_future(self.renewal.hear(each, leaving=leaving)) for each in workers]  # type: ignore[arg-type]
        await self.clock.advance(0.1)
        answers = await asyncio.gather(*calls)
        return [None if each is None else [item.deployment for item in each] for each in answers]

    def metric(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"infermesh_scheduler_{name}", labels)


@contextlib.asynccontextmanager
async def running(settling: float = 0.0) -> AsyncIterator[Stage]:
    stage = Stage(settling)
    task = asyncio.ensure_future(stage.renewal.run())
    await stage.clock.settle()
    try:
        yield stage
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_a_heartbeat_is_answered_by_a_plan_that_has_seen_it() -> None:
    async with running() as stage:
        stage.renewal.want(desired(deployment("a")))
        assert await stage.hear(worker("w1")) == [["a"]]


async def test_heartbeats_that_come_together_are_planned_together() -> None:
    async with running() as stage:
        stage.renewal.want(desired(deployment("a", replicas=9)))
        answers = await stage.hear(*(worker(f"w{n}") for n in range(9)))
    assert answers == [["a"]] * 9
    # 9 workers for the first replica, 8 for the second, …: once, not nine times
    assert stage.policy.asked == 45


async def test_a_heartbeat_without_news_is_answered_without_a_plan() -> None:
    async with running() as stage:
        stage.renewal.want(desired(deployment("a")))
        await stage.hear(worker("w1"))
        plans = stage.metric("plan_seconds_count")
        assert await stage.hear(worker("w1")) == [["a"]]
        assert stage.metric("plan_seconds_count") == plans


async def test_before_it_may_decide_heartbeats_are_answered_all_the_same() -> None:
    async with running(settling=2.0) as stage:
        stage.renewal.want(desired(deployment("a")))
        assert await stage.hear(worker("w1")) == [None]
        assert stage.renewal.routes.value is None
        await stage.clock.advance(2.0)
        assert stage.renewal.routes.value is not None, "time alone must make it decide"
        assert await stage.hear(worker("w1")) == [["a"]]


async def test_a_worker_that_falls_silent_leaves_the_routes_without_any_other_heartbeat() -> None:
    async with running() as stage:
        stage.renewal.want(desired(deployment("a")))
        await stage.hear(worker("w1", *ready("a/1")))
        routes = stage.renewal.routes.watch()
        assert [each.id for each in (await anext(routes)).workers] == ["w1"]
        pushed = asyncio.ensure_future(anext(routes))
        await stage.clock.advance(2.5)
        assert not pushed.done()
        await stage.clock.advance(1.0)
        snapshot = await pushed
        assert not snapshot.workers
        assert snapshot.deployments[0].reason == "version 1 is ready on 0 of 1 workers: no worker is alive"
        assert stage.metric("workers_lost_total") == 1


async def test_a_worker_that_leaves_is_gone_before_it_is_answered() -> None:
    async with running() as stage:
        stage.renewal.want(desired(deployment("a")))
        await stage.hear(worker("w1", *ready("a/1")))
        assert await stage.hear(worker("w1"), leaving=True) == [None]
        assert stage.renewal.routes.value is not None
        assert not stage.renewal.routes.value.workers


async def test_reports_are_published_only_when_they_differ() -> None:
    async with running() as stage:
        stage.renewal.want(desired(deployment("a")))
        await stage.hear(worker("w1", *ready("a/1")))
        first = stage.renewal.reports.value
        assert first is not None
        assert first[0].state == Deployment.ACTIVE
        await stage.hear(worker("w2"))
        assert stage.renewal.reports.value is first
        await stage.hear(worker("w1"))
        assert stage.renewal.reports.value is not first


async def test_a_plan_that_fails_leaves_the_last_one_in_force_and_is_tried_again() -> None:
    with structlog.testing.capture_logs() as logs:
        async with running() as stage:
            stage.renewal.want(desired(deployment("a")))
            await stage.hear(worker("w1"))
            stage.policy.broken = True
            stage.renewal.want(desired(deployment("a"), deployment("b")))
            assert await stage.hear(worker("w2"), worker("w1")) == [None, ["a"]]
            await stage.hear(worker("w2", *ready("x/1")))
            assert stage.metric("plan_errors_total") == 1, "it is not tried at every heartbeat"
            stage.policy.broken = False
            await stage.clock.advance(1.3)
            assert await stage.hear(worker("w2"), worker("w1")) == [["b"], ["a"]]
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [("plan failed", "error")]


async def test_a_worker_that_hangs_up_while_it_waits_harms_nobody() -> None:
    async with running() as stage:
        stage.renewal.want(desired(deployment("a")))
        gone = asyncio.ensure_future(stage.renewal.hear(worker("w1"), leaving=False))
        await asyncio.sleep(0)
        gone.cancel()
        assert await stage.hear(worker("w2")) == [[]]
        assert await stage.hear(worker("w1")) == [["a"]], "its heartbeat counted"


@pytest.mark.parametrize(
    ("name", "labels", "expected"),
    [
        ("workers", {"state": "serving"}, 1),
        ("workers", {"state": "draining"}, 1),
        ("assignments", {}, 1),
        ("unplaced_replicas", {}, 2),
    ],
)
async def test_metrics(name: str, labels: dict[str, str], expected: float) -> None:
    async with running() as stage:
        stage.renewal.want(desired(deployment("a", replicas=3)))
        await stage.hear(worker("w1"), worker("w2", draining=True))
        assert stage.metric(name, **labels) == expected


async def test_a_restarted_scheduler_moves_nothing() -> None:
    """Three workers go on sending heartbeats, each at its own time, to a scheduler that has forgotten everything."""
    wanted = desired(*(deployment(id, replicas=2) for id in "abcd"))
    fleet = [
        worker("w1", *ready("a/1", "b/1")),
        worker("w2", *ready("a/1", "c/1", "d/1")),
        worker("w3", *ready("b/1", "c/1", "d/1")),
    ]
    async with running(settling=2.0) as stage:
        answers = []
        for beat in range(4):
            for number, each in enumerate(fleet):
                if (beat, number) == (0, 2):
                    stage.renewal.want(wanted)
                answers.append((each.id, (await stage.hear(each))[0]))
                await stage.clock.advance(0.2)
    decided = {id: answer for id, answer in answers if answer is not None}
    assert decided == {"w1": ["a", "b"], "w2": ["a", "c", "d"], "w3": ["b", "c", "d"]}
    assert all(answer in (None, decided[id]) for id, answer in answers)
