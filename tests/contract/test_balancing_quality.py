"""How well policies balance, in virtual time, through the real dispatcher."""

import asyncio
from random import Random

import pytest

from tests.unit.gateway.simulation import SimMesh, SimWorker, deployed
from tests.unit.gateway.virtual import run

TARGET = "digits/1"


def latencies(policy: str, workers: list[SimWorker], rate: float, count: int) -> list[float]:
    """Returns the sorted times of `count` calls that come at random, `rate` a second on average."""

    async def scenario() -> list[float]:
        loop, rng, times = asyncio.get_running_loop(), Random(5), []

        async with SimMesh(*workers) as mesh:
            await mesh.route(deployed({"1": workers}, policy=policy))

            async def call() -> None:
                began = loop.time()
                await mesh.infer()
                times.append(loop.time() - began)

            async with asyncio.TaskGroup() as calls:
                for _ in range(count):
                    calls.create_task(call())
                    await asyncio.sleep(rng.expovariate(rate))
        return sorted(times)

    return run(scenario())


def fleet(credit: int = 64) -> list[SimWorker]:
    fast = [SimWorker(f"fast{n}", {TARGET: credit}, seconds=0.01) for n in range(3)]
    return [*fast, SimWorker("slow", {TARGET: credit}, seconds=0.2)]


def test_least_load_keeps_calls_away_from_a_slow_worker() -> None:
    by_chance = latencies("random", fleet(), rate=200, count=1_500)
    by_load = latencies("least_load", fleet(), rate=200, count=1_500)

    # by chance a quarter of the calls is slow; by load hardly one is
    assert by_chance[int(len(by_chance) * 0.8)] > 0.19
    assert by_load[int(len(by_load) * 0.9)] < 0.05


@pytest.mark.parametrize("policy", ["round_robin", "random", "least_load", "weighted"])
def test_late_binding_bounds_what_a_slow_worker_can_hold(policy: str) -> None:
    workers = fleet(credit=2)

    times = latencies(policy, workers, rate=400, count=1_500)

    # its credit of 2 lets it have ten calls a second, whatever the policy would like
    assert len(workers[-1].received) <= 10 * (1_500 / 400) * 1.5 + 2
    assert times[-1] < 1.0


@pytest.mark.parametrize("policy", ["round_robin", "random", "least_load", "weighted"])
def test_equal_workers_share_equally(policy: str) -> None:
    workers = [SimWorker(f"w{n}", {TARGET: 64}, seconds=0.01) for n in range(4)]

    latencies(policy, workers, rate=300, count=2_000)

    assert all(400 <= len(worker.received) <= 600 for worker in workers), [len(w.received) for w in workers]
