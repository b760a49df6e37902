"""Five times more calls than the workers can do, from clients that never give up: what can be done in time is done, and
when it is over it is over."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from random import Random

import pytest

from infermesh.errors import MeshError, Overloaded
from infermesh.gateway.admission import Limits
from infermesh.gateway.calls import Call
from infermesh.gateway.forecast import Forecast
from infermesh.gateway.stats import TargetStats
from tests.unit.gateway.simulation import SimMesh, SimWorker, deployed, outcomes
from tests.unit.gateway.virtual import run

TARGET = "digits/1"
CAPACITY = 100  # calls a second, of two workers that do two at a time in 40 ms each


@dataclass
class Storm:
    """Clients whose calls are wanted at random times; each is tried four times, half a second at most each time."""

    mesh: SimMesh
    rng: Random
    timeout: float = 0.5
    wanted: Counter[int] = field(default_factory=Counter)  # by the second
    good: Counter[int] = field(default_factory=Counter)  # by the second of the answer
    attempts: int = 0
    refused_after: list[float] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def blow(self, rate: float, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while loop.time() < end:
            self.wanted[int(loop.time())] += 1
            self.tasks.append(asyncio.create_task(self._want()))
            await asyncio.sleep(self.rng.expovariate(rate))

    async def _want(self) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(4):
            self.attempts += 1
            begun = loop.time()
            try:
                await self.mesh.infer(timeout=self.timeout)
            except MeshError as error:
                if isinstance(error, Overloaded):
                    self.refused_after.append(loop.time() - begun)
                await asyncio.sleep(self.rng.uniform(0.02, 0.1))  # none waits as long as it is asked to
            else:
                self.good[int(loop.time())] += 1
                return


def pair_of_workers() -> list[SimWorker]:
    return [SimWorker(name, {TARGET: 2}, seconds=0.04, compute_us=40_000) for name in "ab"]


async def storm(seed: int, workers: list[SimWorker]) -> tuple[Storm, list[int], list[int], list[int]]:
    """Returns what a storm of ten seconds did, and the answers in each second before, within and after it."""
    async with SimMesh(*workers) as mesh:
        await mesh.route(deployed({"1": workers}))
        wind = Storm(mesh, Random(seed))
        start = int(asyncio.get_running_loop().time())
        for rate, seconds in ((0.7, 5), (5, 10), (0.7, 10)):
            await wind.blow(rate * CAPACITY, seconds)
        await asyncio.gather(*wind.tasks)
        assert mesh.core.dispatcher.in_flight() == 0
        assert mesh.core._directory.tally.bytes == 0
    good = [wind.good[start + second] for second in range(26)]
    return wind, good[:5], good[5:15], good[15:25]


@pytest.mark.parametrize("seed", [1, 2])
def test_what_can_be_done_is_done_while_five_times_as_much_is_wanted(seed: int) -> None:
    workers = pair_of_workers()
    wind, before, within, after = run(storm(seed, workers))

    assert sum(before) >= 0.99 * sum(list(wind.wanted.values())[:5]) - CAPACITY * 0.1
    assert sum(within) >= 0.8 * CAPACITY * 10
    assert min(within[1:]) >= 0.75 * CAPACITY
    later = list(wind.wanted.values())[20:25]  # from five seconds after it on
    assert sum(after[5:]) >= 0.99 * sum(later) - 3  # those of the last moment are answered a moment later
    executed = sum(len(worker.received) for worker in workers)
    cancelled = sum(len(worker.cancelled) for worker in workers)
    assert executed <= 1.1 * sum(wind.wanted.values())
    assert cancelled <= 0.02 * executed  # hardly anything was begun in vain
    at_once = sum(seconds < 0.005 for seconds in wind.refused_after)
    assert at_once >= 0.9 * len(wind.refused_after)


def test_a_call_that_goes_before_others_is_not_refused_for_their_sake() -> None:
    async def scenario() -> None:
        worker = SimWorker("a", {TARGET: 1}, seconds=0.1, compute_us=100_000)
        async with SimMesh(worker) as mesh:
            await mesh.route(deployed({"1": [worker]}))
            patient = [mesh.infer(timeout=100) for _ in range(200)]
            await asyncio.sleep(5)

            hasty = mesh.infer(payload=b"hasty", timeout=0.5)
            urgent = mesh.infer(payload=b"urgent", timeout=0.6, priority=1)
            assert await hasty == b"a|digits/1|hasty"
            assert await urgent == b"a|digits/1|urgent"
            with pytest.raises(Overloaded) as caught:
                await mesh.infer(payload=b"late", timeout=5, priority=-1)
            assert caught.value.reason == "DEADLINE_UNREACHABLE"
            assert 5 < (caught.value.retry_after or 0) < 20
            await outcomes(patient)

    run(scenario())


def test_a_call_without_a_deadline_is_never_refused_for_time() -> None:
    async def scenario() -> None:
        worker = SimWorker("a", {TARGET: 1}, seconds=0.1, compute_us=100_000)
        async with SimMesh(worker, limits=Limits(max_queue=500)) as mesh:
            await mesh.route(deployed({"1": [worker]}))
            assert all(isinstance(one, bytes) for one in await outcomes([mesh.infer() for _ in range(400)]))

    run(scenario())


def test_an_estimate_that_refuses_everything_does_not_last() -> None:
    async def scenario() -> None:
        worker = SimWorker("a", {TARGET: 1}, seconds=0.1, compute_us=20_000_000)
        async with SimMesh(worker) as mesh:
            await mesh.route(deployed({"1": [worker]}))
            for _ in range(3):  # says that it takes 20 s
                await outcomes([mesh.infer() for _ in range(40)])
            worker.compute_us = 100_000
            answered = 0
            for _ in range(240):  # a minute
                calls = [mesh.infer(timeout=1) for _ in range(2)]
                await asyncio.sleep(0.25)
                answered += sum(isinstance(one, bytes) for one in await outcomes(calls))
            assert answered > 400

    run(scenario())


def test_nothing_is_foreseen_while_nothing_is_known() -> None:
    forecast = Forecast(TargetStats("d", "1"))
    hasty = Call("d", "", b"", deadline=100.001)

    assert forecast.wait(1_000, 100.0) == 0
    assert not forecast.too_late(hasty, 0.0, 100.0)


def test_the_pace_is_that_of_bursts_and_is_forgotten() -> None:
    stats = TargetStats("d", "1")
    forecast = Forecast(stats)
    for burst in range(3):  # 32 calls at once, every second
        for _ in range(32):
            stats.succeed(1.0, 0, 800_000)
            forecast.left(100.0 + burst)

    assert forecast.wait(63, 102.5) == pytest.approx(2.0)
    assert forecast.too_late(Call("d", "", b"", deadline=103.4), 0.0, 102.5)
    assert not forecast.too_late(Call("d", "", b"", deadline=103.6), 0.0, 102.5)
    assert forecast.wait(63, 200.0) == 0


def test_one_stall_says_nothing_of_what_comes_after() -> None:
    forecast, now = Forecast(TargetStats("d", "1")), 100.0
    for pause in (0.001, 0.001, 0.3, 0.001, 0.001):  # a worker dies, and its calls wait for their next
        for _ in range(200):
            forecast.left(now)
            now += 0.001
        now += pause
        assert forecast.wait(99, now) < 0.2

    fresh = Forecast(TargetStats("d", "1"))
    fresh.left(100.0)
    for _ in range(16):
        fresh.left(104.0)
    assert fresh.wait(99, 104.0) == 0, "all that is known is a stall"
