"""What the end of a worker would cost, and when that is worth a call to the API."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from infermesh.errors import NotReady
from infermesh.mesh.backoff import Backoff
from infermesh.scheduler.cost_writer import CostWriter
from infermesh.scheduler.deletion_cost import DeletionCosts
from infermesh.scheduler.demand import Demand, Load
from infermesh.scheduler.fleet import Fleet
from infermesh.scheduler.model import Worker
from infermesh.testing.clock import FakeClock
from infermesh.testing.workloads import FakeWorkloads
from tests.unit.scheduler.build import ready, worker


def cost(calls: int, *, held: int = 1, draining: bool = False) -> int:
    """Returns the cost of a worker that has had so many calls all the time."""
    costs, versions = DeletionCosts(), [f"d/{number}" for number in range(1, held + 1)]
    one = worker("w", *ready(*versions), draining=draining)
    costs.look([one], {"w": Load(calls)})
    return costs.due(0.0)[0][1]


def test_the_emptiest_costs_least() -> None:
    assert cost(0, draining=True) < cost(0, held=0) < cost(0, held=1) < cost(0, held=5) < cost(1, held=0)
    assert cost(1) < cost(2) < cost(4) < cost(64) < cost(1_000_000) < 2**31


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_more_calls_never_cost_less(one: int, other: int) -> None:
    assert (cost(one) <= cost(other)) == (one <= other) or cost(one) == cost(other)


def looked(costs: DeletionCosts, calls: int, *workers: Worker) -> None:
    costs.look(workers or [worker("w")], {"w": Load(calls)})


def test_a_cost_is_written_when_it_has_changed_by_much() -> None:
    costs = DeletionCosts()
    looked(costs, 10)
    ((name, first),) = costs.due(0.0)
    costs.wrote(name, first, 0.0)
    looked(costs, 11)
    assert costs.due(10.0) == [], "about the same"
    looked(costs, 40)
    assert costs.due(4.9) == [], "a moment ago"
    ((_, second),) = costs.due(5.0)
    assert second > first


def test_when_workers_are_about_to_go_every_change_counts_at_once() -> None:
    costs = DeletionCosts()
    looked(costs, 10)
    costs.wrote("w", costs.due(0.0)[0][1], 0.0)
    assert costs.due(0.1, at_once=True) == []
    looked(costs, 13)
    assert len(costs.due(0.1, at_once=True)) == 1


def test_what_has_just_begun_is_not_idle_and_what_has_just_ended_is_not_yet() -> None:
    costs = DeletionCosts()
    looked(costs, 0)
    idle = costs.due(0.0)[0][1]
    looked(costs, 1)
    busy = costs.due(0.0)[0][1]
    assert busy > idle
    looked(costs, 0)
    assert idle < costs.due(0.0)[0][1] < busy
    for _ in range(20):
        looked(costs, 0)
    assert costs.due(0.0)[0][1] == idle


def test_a_worker_that_nobody_knows_is_left_alone_until_another_has_its_name() -> None:
    costs = DeletionCosts()
    looked(costs, 1)
    costs.forget("w")
    looked(costs, 90)
    assert costs.due(100.0) == []
    looked(costs, 90, replace(worker("w"), incarnation="next"))
    assert len(costs.due(100.0)) == 1


class Stage:
    """A writer, its workers `a` and `b` as pods, and `stranger`, which is none."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.workloads = FakeWorkloads({}, ["a", "b"])
        self.calls = {"a": 0, "b": 0, "stranger": 0}
        self.known, self.leads = True, True
        self.fleet = Fleet(100.0, self.clock.time())
        for name in self.calls:
            self.fleet.hear(worker(name), self.clock.time())
        self.writer = CostWriter(
            self.fleet,
            lambda: Demand(self.known, loads={name: Load(calls) for name, calls in self.calls.items()}),
            self.workloads,
            may_act=lambda: self.leads,
            clock=self.clock,
            backoff=Backoff(lambda: 1.0, first=1.0),
        )


@contextlib.asynccontextmanager
async def running() -> AsyncIterator[Stage]:
    stage = Stage()
    task = asyncio.ensure_future(stage.writer.run())
    try:
        yield stage
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_the_order_of_the_costs_follows_the_calls() -> None:
    async with running() as stage:
        stage.calls |= {"a": 3}
        await stage.clock.advance(1.1)
        assert (stage.workloads.costs["a"] or 0) > (stage.workloads.costs["b"] or 0)
        stage.calls |= {"a": 0, "b": 3}
        await stage.clock.advance(30)
        assert (stage.workloads.costs["a"] or 0) < (stage.workloads.costs["b"] or 0)


async def test_writes_are_rare_whatever_workers_do() -> None:
    async with running() as stage:
        for second in range(60):
            stage.calls |= {"a": 100 * (second % 2), "b": 2}
            await stage.clock.advance(1.0)
        assert stage.workloads.writes <= 13 + 1
        still = stage.workloads.writes
        stage.calls |= {"a": 9, "b": 9}
        await stage.clock.advance(60)
        assert stage.workloads.writes <= still + 6, "what is steady is left as it is"


async def test_a_refresh_does_not_wait() -> None:
    async with running() as stage:
        await stage.clock.advance(1.1)
        stage.calls |= {"a": 1}
        await stage.writer.refresh()
        assert (stage.workloads.costs["a"] or 0) > (stage.workloads.costs["b"] or 0)


async def test_the_api_may_be_away_for_a_while() -> None:
    async with running() as stage:
        stage.workloads.failure = NotReady("away")
        await stage.clock.advance(5)
        await stage.writer.refresh()  # as well as it can
        stage.workloads.failure = None
        await stage.clock.advance(5)
        assert stage.workloads.costs["a"] is not None


async def test_nothing_is_written_while_nothing_is_known_or_somebody_else_leads() -> None:
    async with running() as stage:
        stage.known = False
        await stage.clock.advance(5)
        stage.known, stage.leads = True, False
        await stage.clock.advance(5)
        assert stage.workloads.writes == 0
