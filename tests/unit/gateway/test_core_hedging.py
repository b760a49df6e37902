"""Slow calls that are sent twice: what it gains, what it costs, and that nothing is counted or answered twice."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import pytest
from google.protobuf.duration_pb2 import Duration

from infermesh.errors import WorkerLost
from infermesh.gateway.calls import Call
from infermesh.v1.deployment_pb2 import Hedging
from tests.unit.gateway.simulation import SimMesh, SimWorker, ask_directly, deployed, outcomes
from tests.unit.gateway.virtual import run

TARGET = "digits/1"
AFTER_50_MS = Hedging(budget=0.5, delay=Duration(nanos=50_000_000))


@dataclass
class Outcome:
    """What became of many calls; times in seconds."""

    p50: float
    p99: float
    p999: float
    executed: int
    cancelled: int
    hedges: int
    calls: int


async def poisson(workers: list[SimWorker], hedging: Hedging | None, *, calls: int, rate: float) -> Outcome:
    """Sends calls at random times and returns how long they took."""
    loop, rng, took = asyncio.get_running_loop(), Random(3), []
    async with SimMesh(*workers) as mesh:
        await mesh.route(deployed({"1": workers}, hedging=hedging))

        def call() -> asyncio.Future[bytes]:
            begun, made = loop.time(), mesh.infer()
            made.add_done_callback(lambda _: took.append(loop.time() - begun))
            return made

        futures = []
        for _ in range(calls):
            futures.append(call())
            await asyncio.sleep(rng.expovariate(rate))
        assert [one for one in await outcomes(futures) if isinstance(one, BaseException)] == []
        await asyncio.sleep(2)
        [stats] = [one for one in mesh.core.stats() if one.model]
        assert (stats.ok.count, stats.failed) == (calls, {})
        assert mesh.core.dispatcher.in_flight() == 0
    took.sort()
    points = [took[int(len(took) * share)] for share in (0.5, 0.99, 0.999)]
    executed, cancelled = sum(len(w.received) for w in workers), sum(len(w.cancelled) for w in workers)
    return Outcome(*points, executed, cancelled, stats.hedges, calls)


def noisy(seed: int, stalls: float = 0.0) -> Callable[[], float]:
    """Returns what draws a few milliseconds, and for the share `stalls` of the calls 200 more."""
    rng = Random(seed)
    return lambda: rng.uniform(0, 0.005) + (0.2 if rng.random() < stalls else 0.0)


def some_stall() -> list[SimWorker]:
    return [SimWorker(n, {TARGET: 32}, stall=noisy(ord(n), 0.05 if n == "a" else 0)) for n in "abc"]


def test_a_worker_that_stalls_now_and_then_is_not_felt_any_more_for_two_percent_more_load() -> None:
    without = run(poisson(some_stall(), None, calls=6_000, rate=200))
    with_it = run(poisson(some_stall(), Hedging(budget=0.02), calls=6_000, rate=200))

    assert (without.hedges, without.executed) == (0, 6_000)
    assert without.p99 > 0.2
    assert with_it.p99 < without.p99 / 3
    assert with_it.p999 < without.p999 / 3
    assert with_it.p50 == pytest.approx(without.p50, rel=0.05)
    assert 0 < with_it.hedges <= 0.02 * 6_000
    # one of two is taken back, always; with these seeds a single one before it had left
    assert with_it.cancelled == with_it.hedges - 1
    assert with_it.executed == 6_000 + with_it.cancelled


def one_slow() -> list[SimWorker]:
    return [SimWorker(f"w{n}", {TARGET: 32}, seconds=0.01 if n else 0.2, stall=noisy(n)) for n in range(10)]


def test_one_slow_worker_of_ten_is_not_felt_any_more_for_fifteen_percent_more_load() -> None:
    without = run(poisson(one_slow(), None, calls=3_000, rate=200))
    with_it = run(poisson(one_slow(), Hedging(budget=0.15), calls=3_000, rate=200))

    assert without.p99 == pytest.approx(0.2, rel=0.1)
    assert with_it.p99 < without.p99 / 3
    assert 0 < with_it.hedges <= 0.15 * 3_000
    assert with_it.executed <= 1.15 * 3_000


def test_the_budget_holds_where_every_call_is_slow() -> None:
    workers = [SimWorker(name, {TARGET: 1_000}, seconds=1) for name in "abc"]
    outcome = run(poisson(workers, Hedging(budget=0.1, delay=Duration(nanos=10_000_000)), calls=1_000, rate=100))

    assert 90 <= outcome.hedges <= 100
    assert outcome.executed <= 1.1 * 1_000


def test_where_all_are_busy_nothing_is_sent_twice() -> None:
    workers = [SimWorker(name, {TARGET: 1}, seconds=0.1) for name in "ab"]
    outcome = run(poisson(workers, AFTER_50_MS, calls=300, rate=40))  # twice what they can do

    assert outcome.hedges <= 10  # at the beginning and at the end, when nobody waits
    assert outcome.executed == 300 + outcome.hedges


def test_a_single_worker_is_never_asked_twice() -> None:
    outcome = run(poisson([SimWorker("a", {TARGET: 64}, seconds=0.3)], AFTER_50_MS, calls=100, rate=10))

    assert (outcome.hedges, outcome.executed) == (0, 100)


async def pair(
    seconds: dict[str, float], hedging: Hedging | None = AFTER_50_MS
) -> tuple[SimMesh, SimWorker, SimWorker]:
    """Returns a mesh of two workers, and which of them got the first of three calls; the budget is saved up."""
    a, b = (SimWorker(name, {TARGET: 8}, seconds=took) for name, took in seconds.items())
    mesh = SimMesh(a, b)
    await mesh.__aenter__()
    await mesh.route(deployed({"1": [a, b]}, hedging=hedging))
    return mesh, a, b


@pytest.mark.parametrize("ask", [SimMesh.infer, ask_directly])
def test_the_first_answer_counts_and_the_other_copy_is_cancelled(ask: Callable[..., asyncio.Future[bytes]]) -> None:
    async def scenario() -> None:
        mesh, a, b = await pair({"slow": 1.0, "fast": 0.01})
        loop = asyncio.get_running_loop()
        found = await outcomes([ask(mesh, payload=b"x") for _ in range(8)])
        assert set(found) == {b"fast|digits/1|x"}
        assert loop.time() < 100.2
        await asyncio.sleep(2)
        assert (len(a.received), len(a.cancelled), len(b.received)) == (4, 4, 8)
        await mesh.__aexit__()

    run(scenario())


def test_a_copy_that_fails_or_dies_with_its_worker_changes_nothing() -> None:
    async def scenario() -> None:
        mesh, a, b = await pair({"a": 0.3, "b": 0.3})
        b.outcome = lambda _: (WorkerLost("runner died"), False)
        calls = [mesh.infer() for _ in range(6)]
        await asyncio.sleep(0.1)
        assert len(a.received) + len(b.received) == 9  # three copies: the budget of six calls
        b.kill()
        assert set(await outcomes(calls)) == {b"a|digits/1|x"}
        [stats] = [one for one in mesh.core.stats() if one.model]
        assert (stats.ok.count, stats.failed) == (6, {})
        await mesh.__aexit__()

    run(scenario())


def test_a_call_whose_worker_dies_is_answered_by_its_copy_or_sent_again_but_once() -> None:
    async def scenario() -> None:
        mesh, a, _ = await pair({"a": 0.3, "b": 0.3})
        calls = [mesh.infer() for _ in range(4)]
        await asyncio.sleep(0.1)
        a.kill()
        assert set(await outcomes(calls)) == {b"b|digits/1|x"}
        await asyncio.sleep(1)
        [stats] = [one for one in mesh.core.stats() if one.model]
        assert (stats.ok.count, stats.failed, mesh.core.dispatcher.in_flight()) == (4, {}, 0)
        await mesh.__aexit__()

    run(scenario())


def test_a_cancelled_call_takes_its_copy_with_it() -> None:
    async def scenario() -> None:
        mesh, a, b = await pair({"a": 0.3, "b": 0.3})
        calls = [mesh.infer() for _ in range(4)]
        await asyncio.sleep(0.1)
        for call in calls:
            call.cancel()
        await asyncio.sleep(1)
        assert len(a.received) + len(b.received) == len(a.cancelled) + len(b.cancelled) == 6
        assert mesh.core.dispatcher.in_flight() == 0
        await mesh.__aexit__()

    run(scenario())


def test_a_stream_is_never_sent_twice() -> None:
    async def scenario() -> None:
        mesh, a, b = await pair({"a": 0.3, "b": 0.3})
        streams = [mesh.core.dispatcher.stream(Call("digits", "", b"q")) for _ in range(4)]
        for stream in streams:
            assert len([payload async for payload in stream]) == 3
        assert len(a.received) + len(b.received) == 4
        await mesh.__aexit__()

    run(scenario())


def test_what_is_kept_of_ended_calls_does_not_pile_up() -> None:
    async def scenario() -> None:
        slowly = Hedging(budget=0.1, delay=Duration(seconds=60))
        mesh, _, _ = await pair({"a": 0.001, "b": 0.001}, slowly)
        for _ in range(2_000):
            await mesh.infer()
        [target] = list(mesh.core._directory)
        assert target.hedges is not None
        assert len(target.hedges._line) <= 130
        await mesh.__aexit__()

    run(scenario())


def test_what_was_measured_stays_until_the_deployment_wants_something_else() -> None:
    async def scenario() -> None:
        mesh, a, b = await pair({"a": 0.001, "b": 0.001})
        await mesh.infer()
        [target] = list(mesh.core._directory)
        hedges = target.hedges
        await mesh.route(deployed({"1": [a, b]}, hedging=AFTER_50_MS, max_queue=5))
        assert target.hedges is hedges
        await mesh.route(deployed({"1": [a, b]}))
        assert (target.hedges, target.special) == (None, False)
        await mesh.__aexit__()

    run(scenario())
