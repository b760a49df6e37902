"""What becomes of what gateways tell; in virtual time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace

from prometheus_client import CollectorRegistry

from infermesh.mesh.metrics import PoolMetrics
from infermesh.scheduler.autoscaler import Signals
from infermesh.scheduler.control import Control
from infermesh.scheduler.fleet import Fleet
from infermesh.scheduler.placement.spread import Spread
from infermesh.scheduler.pools import PoolConfig
from infermesh.scheduler.scaling import Scaling
from infermesh.testing.clock import FakeClock
from infermesh.v1.scheduler_service_pb2 import ReportDemandRequest
from tests.unit.scheduler.build import deployment, desired, worker
from tests.unit.scheduler.test_demand import report, waits

POOLS = {
    "cpu": PoolConfig(autoscaling="keda", min=0, zero_delay=60),
    "gpu": PoolConfig(autoscaling="builtin", workload="gpus", device="cuda"),
}


class Stage:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.registry = CollectorRegistry()
        self.control = Control(Fleet(1.0, self.clock.time()), Spread(), epoch="e", settled_at=0.0)
        self.scaling = Scaling(self.control, POOLS, self.clock, PoolMetrics(self.registry))

    def plan(self, *pools: str) -> None:
        """A deployment of each pool is wanted, and a plan was made."""
        self.control.want(desired(*(replace(deployment(pool), pool=pool) for pool in pools)))
        self.control.renew()

    def alive(self, name: str, pool: str) -> None:
        self.control.hear(replace(worker(name), pool=pool), self.clock.time(), leaving=False)

    def tell(self, message: ReportDemandRequest) -> None:
        self.scaling.hear(message)

    def signals(self, pool: str) -> Signals:
        found = self.scaling.signals[pool].value
        assert found is not None
        return found

    def metric(self, name: str, pool: str) -> float | None:
        return self.registry.get_sample_value(f"infermesh_pool_{name}", {"pool": pool})


@contextlib.asynccontextmanager
async def running() -> AsyncIterator[Stage]:
    stage = Stage()
    task = asyncio.ensure_future(stage.scaling.run())
    await stage.clock.settle()
    try:
        yield stage
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_nothing_is_known_before_a_plan_was_made() -> None:
    async with running() as stage:
        stage.tell(report("a", waits("cpu")))
        await stage.clock.advance(1.1)
        assert not stage.signals("cpu").known
        stage.plan("cpu")
        await stage.clock.advance(1.1)
        assert stage.signals("cpu").known


async def test_calls_that_begin_to_wait_without_a_worker_are_seen_at_once() -> None:
    async with running() as stage:
        stage.plan("cpu", "gpu")
        stage.tell(report("a"))
        await stage.clock.advance(1.0)
        assert not stage.signals("cpu").active
        stage.tell(report("a", waits("cpu", unserved=True)))
        await stage.clock.settle()
        assert (stage.signals("cpu").active, stage.signals("cpu").rows) == (True, 1)
        assert not stage.signals("gpu").active


async def test_everything_else_is_seen_every_second() -> None:
    async with running() as stage:
        stage.alive("w", "cpu")
        stage.plan("cpu")
        stage.tell(report("a", w=(6, 8)))
        await stage.clock.settle()
        assert stage.scaling.signals["cpu"].value is None
        await stage.clock.advance(1.0)
        assert (stage.signals("cpu").workers, stage.signals("cpu").utilization) == (1, 0.75)


async def test_gateways_that_fall_silent_leave_nothing_known() -> None:
    async with running() as stage:
        stage.plan("cpu")
        stage.tell(report("a"))
        await stage.clock.advance(4.5)
        assert stage.signals("cpu").known
        await stage.clock.advance(1.0)
        assert not stage.signals("cpu").known


async def test_levels_are_shown_while_it_leads() -> None:
    async with running() as stage:
        stage.alive("w", "cpu")
        stage.plan("cpu")
        stage.tell(report("a", waits("cpu", 40, wait=2.5), w=(8, 8)))
        await stage.clock.advance(1.0)
        assert stage.metric("workers", "cpu") == 1
        assert stage.metric("waiting_rows", "cpu") == 40
        assert stage.metric("busy_workers", "cpu") == 1
        assert stage.metric("wait_seconds", "cpu") == 2.5
        assert stage.metric("active", "cpu") == 1
        assert stage.metric("desired_workers", "cpu") == 3
        assert stage.metric("desired_workers", "gpu") is None, "that is said by who sets it"
    assert stage.metric("workers", "cpu") is None, "somebody else knows now"


async def test_whoever_follows_the_signals_is_let_go_at_the_end() -> None:
    async with running() as stage:
        stage.plan("cpu")
        await stage.clock.advance(1.0)
        seen = [signals async for signals in closing(stage)]
        assert len(seen) == 1


async def closing(stage: Stage) -> AsyncIterator[Signals]:
    async for signals in stage.scaling.signals["cpu"].watch():
        yield signals
        stage.scaling.close()
