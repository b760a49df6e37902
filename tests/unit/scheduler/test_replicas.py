"""Setting the number of workers of a pool; in virtual time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from prometheus_client import CollectorRegistry

from infermesh.errors import NotReady, PermissionDenied
from infermesh.mesh.backoff import Backoff
from infermesh.mesh.metrics import PoolMetrics
from infermesh.scheduler.autoscaler import Signals
from infermesh.scheduler.latest import Latest
from infermesh.scheduler.pools import PoolConfig, PoolTarget
from infermesh.scheduler.replicas import Replicas
from infermesh.scheduler.workloads import Scale
from infermesh.testing.clock import FakeClock
from infermesh.testing.workloads import FakeWorkloads

POOL = PoolConfig(
    autoscaling="builtin",
    min=0,
    max=5,
    target=PoolTarget(queue_rows=10),
    scale_down_delay=30,
    zero_delay=30,
    workload="workers",
)


class Stage:
    def __init__(self, replicas: int) -> None:
        self.clock = FakeClock()
        self.workloads = FakeWorkloads({"workers": replicas})
        self.signals: Latest[Signals] = Latest()
        self.registry = CollectorRegistry()
        self.leads = True
        self.before_fewer: list[int] = []
        self.pool = Replicas(
            "cpu",
            POOL,
            self.signals,
            self.workloads,
            may_act=lambda: self.leads,
            before_fewer=self.prepare,
            clock=self.clock,
            backoff=Backoff(lambda: 1.0, first=1.0),
            metrics=PoolMetrics(self.registry),
        )

    async def prepare(self) -> None:
        self.before_fewer.append(self.replicas)

    @property
    def replicas(self) -> int:
        return self.workloads.replicas["workers"]

    def metric(self, name: str) -> float | None:
        return self.registry.get_sample_value(f"infermesh_pool_{name}", {"pool": "cpu"})

    async def see(self, seconds: int = 1, *, known: bool = True, **fields: float) -> None:
        """Lets so many seconds pass with the same signals."""
        for _ in range(seconds):
            active = any(fields.values())
            self.signals.put(Signals(known, self.replicas, active=active, **fields))
            await self.clock.advance(1.0)


@contextlib.asynccontextmanager
async def running(replicas: int = 1) -> AsyncIterator[Stage]:
    stage = Stage(replicas)
    task = asyncio.ensure_future(stage.pool.run())
    await stage.clock.settle()
    try:
        yield stage
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_a_first_worker_for_calls_that_wait() -> None:
    async with running(0) as stage:
        await stage.see()
        assert stage.replicas == 0
        await stage.see(rows=1)
        assert stage.replicas == 1


async def test_up_at_once_and_down_later() -> None:
    async with running() as stage:
        await stage.see(rows=30, utilization=1.0)
        assert (stage.replicas, stage.metric("desired_workers")) == (3, 3)
        await stage.see(30, utilization=0.5)
        assert stage.replicas == 3
        await stage.see(3, utilization=0.5)
        assert (stage.replicas, stage.before_fewer) == (1, [3])
        await stage.see()
        assert stage.replicas == 0


async def test_a_number_that_is_right_is_not_written() -> None:
    async with running() as stage:
        await stage.see(20, utilization=0.5)
        assert stage.workloads.writes == 0


async def test_what_somebody_else_sets_is_seen_and_kept_within_the_bounds() -> None:
    async with running() as stage:
        await stage.see(utilization=0.5)
        stage.workloads.change("workers", 9)
        await stage.see(11, utilization=0.5)
        assert stage.replicas == 5


async def test_a_change_that_comes_between_is_looked_at_anew() -> None:
    async with running() as stage:
        await stage.see(utilization=0.5)
        read = stage.workloads.scale

        async def late(workload: str) -> Scale:
            found = await read(workload)
            stage.workloads.scale = read  # type: ignore[method-assign]
            stage.workloads.change(workload, 2)
            return found

        stage.workloads.scale = late  # type: ignore[method-assign]
        await stage.see(rows=30)
        assert stage.replicas == 2, "it is not overwritten"
        await stage.see(rows=30)
        assert stage.replicas == 3
        assert not stage.metric("scaling_errors_total")


async def test_while_the_api_is_away_it_is_tried_again_and_said_once() -> None:
    async with running() as stage:
        stage.workloads.failure = NotReady("API server: away")
        await stage.see(20, rows=30)
        tries = stage.metric("scaling_errors_total")
        assert tries is not None
        assert 5 <= tries <= 15, "more and more rarely"
        stage.workloads.failure = None
        await stage.see(4, rows=30)
        assert stage.replicas == 3


async def test_who_may_not_goes_on_trying_too() -> None:
    async with running() as stage:
        stage.workloads.failure = PermissionDenied("API server: 403")
        await stage.see(3, rows=30)
        stage.workloads.failure = None
        await stage.see(3, rows=30)
        assert stage.replicas == 3


async def test_who_leads_no_more_changes_nothing() -> None:
    async with running() as stage:
        stage.leads = False
        await stage.see(5, rows=30)
        assert stage.workloads.writes == 0


async def test_while_nothing_is_known_nothing_changes() -> None:
    async with running(3) as stage:
        await stage.see(100, known=False)
        assert (stage.replicas, stage.workloads.writes) == (3, 0)
