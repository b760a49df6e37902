"""Workers that fall silent with their streams open: noticed in time, never mistaken for busy ones, taken back."""

import asyncio
from collections import Counter

import pytest

from infermesh.errors import WorkerLost
from infermesh.gateway.admission import Limits
from infermesh.gateway.calls import Call
from tests.unit.gateway.simulation import SimMesh, SimWorker, deployed, outcomes, settle
from tests.unit.gateway.virtual import run

TARGET = "digits/1"


def now() -> float:
    return asyncio.get_running_loop().time()


@pytest.mark.parametrize("into", [0.0, 0.1, 0.2, 0.24])
def test_calls_of_a_frozen_worker_are_answered_elsewhere_within_two_seconds(into: float) -> None:
    async def scenario() -> None:
        a, b = SimWorker("a", {TARGET: 8}, seconds=0.05), SimWorker("b", {TARGET: 8}, seconds=0.05)
        async with SimMesh(a, b) as mesh:
            await mesh.route(deployed({"1": [a, b]}))
            await outcomes([mesh.infer() for _ in range(100)])
            await asyncio.sleep(into)
            calls, took = [], []

            def call() -> None:
                made, begun = mesh.infer(payload=b"%d" % len(calls)), now()
                made.add_done_callback(lambda _: took.append(now() - begun))
                calls.append(made)

            for _ in range(8):
                call()
            await asyncio.sleep(0.02)
            a.freeze()
            began = now()
            while now() < began + 2.5:
                call()
                await asyncio.sleep(0.01)
            found = await outcomes(calls)

            assert 1 < max(took) < 1.7
            assert [f.rpartition(b"|")[2] for f in found] == [b"%d" % n for n in range(len(calls))]
            assert mesh.core.dispatcher.in_flight() == 0

    run(scenario())


def test_an_idle_worker_is_not_asked() -> None:
    async def scenario() -> None:
        worker = SimWorker("a", {TARGET: 8})
        async with SimMesh(worker) as mesh:
            await mesh.route(deployed({"1": [worker]}))
            await mesh.infer()
            await asyncio.sleep(60)
        assert worker.probes == 0

    run(scenario())


def test_a_busy_worker_is_not_asked() -> None:
    async def scenario() -> None:
        worker = SimWorker("a", {TARGET: 8}, seconds=0.01)
        async with SimMesh(worker) as mesh:
            await mesh.route(deployed({"1": [worker]}))
            for _ in range(500):
                await mesh.infer()
        assert worker.probes == 0

    run(scenario())


def test_a_model_may_compute_for_long() -> None:
    async def scenario() -> None:
        a, b = SimWorker("a", {TARGET: 1}, seconds=30), SimWorker("b", {TARGET: 1}, seconds=30)
        async with SimMesh(a, b) as mesh:
            await mesh.route(deployed({"1": [a, b]}))
            await outcomes([mesh.infer(), mesh.infer()])
        assert (len(a.received), len(b.received)) == (1, 1)
        assert 10 < a.probes <= 70

    run(scenario())


def test_a_worker_that_thaws_is_told_what_it_need_not_do_and_is_used_again() -> None:
    async def scenario() -> None:
        a, b = SimWorker("a", {TARGET: 4}, seconds=0.1), SimWorker("b", {TARGET: 16}, seconds=0.1)
        async with SimMesh(a, b) as mesh:
            await mesh.route(deployed({"1": [a, b]}))
            calls = [mesh.infer() for _ in range(8)]
            await asyncio.sleep(0.05)
            a.freeze()
            assert Counter(await outcomes(calls)) == {b"b|digits/1|x": 8}
            had = len(a.received)
            assert set(await outcomes([mesh.infer() for _ in range(20)])) == {b"b|digits/1|x"}
            a.thaw()
            await asyncio.sleep(0.2)
            assert len(a.cancelled) == had
            await outcomes([mesh.infer() for _ in range(20)])
            assert len(a.received) > had

    run(scenario())


def test_calls_stay_with_a_worker_that_nobody_can_stand_in_for() -> None:
    async def scenario() -> None:
        only = SimWorker("only", {TARGET: 4}, seconds=1)
        async with SimMesh(only) as mesh:
            await mesh.route(deployed({"1": [only]}))
            calls = [mesh.infer() for _ in range(4)]
            await asyncio.sleep(0.1)
            only.freeze()
            await asyncio.sleep(3)
            later = mesh.infer()
            await asyncio.sleep(1)
            only.thaw()
            assert set(await outcomes([*calls, later])) == {b"only|digits/1|x"}
        assert (len(only.received), only.cancelled) == (5, [])

    run(scenario())


def test_calls_leave_a_frozen_worker_as_soon_as_another_one_comes() -> None:
    async def scenario() -> None:
        a, b = SimWorker("a", {TARGET: 4}, seconds=0.1), SimWorker("b", {TARGET: 4}, seconds=0.1)
        async with SimMesh(a, b) as mesh:
            await mesh.route(deployed({"1": [a]}))
            calls = [mesh.infer() for _ in range(4)]
            await asyncio.sleep(0.05)
            a.freeze()
            await asyncio.sleep(2)
            await mesh.route(deployed({"1": [a, b]}))
            began = now()
            assert set(await outcomes(calls)) == {b"b|digits/1|x"}
            assert now() < began + 1

    run(scenario())


def test_a_call_leaves_one_silent_worker_but_not_the_next() -> None:
    async def scenario() -> None:
        workers = [SimWorker(name, {TARGET: 1}, seconds=0.1) for name in "abcd"]
        async with SimMesh(*workers) as mesh:
            await mesh.route(deployed({"1": workers}))
            for worker in workers:
                worker.freeze()
            call = mesh.infer()
            await asyncio.sleep(20)
            for worker in workers:
                worker.thaw()
            await call
        assert sum(len(worker.received) for worker in workers) == 2

    run(scenario())


def test_a_worker_that_is_sent_much_has_more_time_to_answer() -> None:
    async def scenario() -> None:
        a, b = SimWorker("a", {TARGET: 1}, seconds=0.1), SimWorker("b", {TARGET: 1}, seconds=0.1)
        async with SimMesh(a, b) as mesh:
            await mesh.route(deployed({"1": [a, b]}))
            call = mesh.infer(payload=bytes(40 << 20))
            await asyncio.sleep(0.05)
            frozen = a if a.received else b
            frozen.freeze()
            asyncio.get_running_loop().call_later(3, frozen.thaw)
            await call
        sent = len(a.received) + len(b.received)
        assert sent == 1

    run(scenario())


def test_a_stream_that_has_begun_waits_for_its_worker() -> None:
    async def scenario() -> None:
        a, b = SimWorker("a", {TARGET: 1}, seconds=0.1), SimWorker("b", {TARGET: 1}, seconds=0.1)
        async with SimMesh(a, b) as mesh:
            await mesh.route(deployed({"1": [a, b]}))
            stream = mesh.core.dispatcher.stream(Call("digits", "", b"q"))
            first = await anext(stream)
            worker = a if first.startswith(b"a") else b
            worker.freeze()
            asyncio.get_running_loop().call_later(2, worker.thaw)
            assert [payload async for payload in stream] == [first, first]
        assert len(a.received) + len(b.received) == 1

    run(scenario())


def test_a_gateway_that_stood_still_itself_blames_nobody() -> None:
    async def scenario() -> None:
        a, b = SimWorker("a", {TARGET: 1}, seconds=30), SimWorker("b", {TARGET: 1}, seconds=30)
        async with SimMesh(a, b, limits=Limits(silence=0.25, probe_timeout=1)) as mesh:
            await mesh.route(deployed({"1": [a, b]}))
            calls = [mesh.infer(), mesh.infer()]
            await asyncio.sleep(0.4)
            a.freeze()  # what it says is not heard
            await asyncio.sleep(0.2)
            asyncio.get_running_loop().now += 10  # type: ignore[attr-defined]
            await asyncio.sleep(0.3)
            a.thaw()
            await outcomes(calls)
        assert (len(a.received), len(b.received), a.cancelled, b.cancelled) == (1, 1, [], [])

    run(scenario())


def test_only_a_lost_worker_ends_a_call_that_it_had_begun_to_stream() -> None:
    async def scenario() -> None:
        only = SimWorker("only", {TARGET: 1}, seconds=1)
        async with SimMesh(only) as mesh:
            await mesh.route(deployed({"1": [only]}))
            stream = mesh.core.dispatcher.stream(Call("digits", "", b"q"))
            await anext(stream)
            only.freeze()
            await asyncio.sleep(5)
            await settle()
            assert not stream.done()
            only.kill()
            with pytest.raises(WorkerLost):
                await anext(stream)

    run(scenario())
