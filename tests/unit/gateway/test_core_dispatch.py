"""The dispatcher against simulated workers, in virtual time: late binding, expiry, cancelling, holding, routes."""

import asyncio
from collections import Counter
from typing import NoReturn

import pytest

from infermesh.errors import DeadlineExceeded, MeshError, NotFound, NotReady, Overloaded
from infermesh.gateway.admission import Limits
from infermesh.gateway.calls import Call
from tests.unit.gateway.simulation import SimMesh, SimWorker, deployed, outcomes, settle, snapshot
from tests.unit.gateway.virtual import run

TARGET = "digits/1"


def loop_time() -> float:
    return asyncio.get_running_loop().time()


def payloads(worker: SimWorker) -> list[bytes]:
    return [item.payload for item in worker.received]


def test_an_idle_mesh_gets_a_call_at_once_and_in_one_piece() -> None:
    async def scenario() -> None:
        worker = SimWorker("a", {TARGET: 4}, seconds=0.01)
        async with SimMesh(worker) as mesh:
            await mesh.route(deployed({"1": [worker]}))
            began = loop_time()

            answer = await mesh.infer(payload=b"\x00\xff", timeout=1, priority=3, traceparent="tp", tracestate="ts")

            assert loop_time() == pytest.approx(began + 0.01)
        item = worker.received[0]
        assert answer == b"a|digits/1|\x00\xff"
        assert (item.target, item.payload, item.priority) == (TARGET, b"\x00\xff", 3)
        assert (item.traceparent, item.tracestate) == ("tp", "ts")
        assert item.timeout_us == pytest.approx(1_000_000, abs=2)

    run(scenario())


def test_a_call_without_a_deadline_says_so() -> None:
    async def scenario() -> None:
        worker = SimWorker("a", {TARGET: 4})
        async with SimMesh(worker) as mesh:
            await mesh.route(deployed({"1": [worker]}))
            await mesh.infer()
        assert worker.received[0].timeout_us == 0

    run(scenario())


def test_the_first_call_leaves_at_once_and_those_of_the_same_turn_together() -> None:
    async def scenario() -> None:
        worker = SimWorker("a", {TARGET: 100})
        async with SimMesh(worker) as mesh:
            await mesh.route(deployed({"1": [worker]}))
            await outcomes([mesh.infer() for _ in range(50)])
        assert [len(bundle.items) for bundle in worker.bundles] == [0, 1, 49]
        assert worker.bundles[0].gateway == "gw"

    run(scenario())


def test_large_payloads_are_split_over_bundles() -> None:
    async def scenario() -> None:
        worker = SimWorker("a", {TARGET: 100})
        async with SimMesh(worker, limits=Limits(bundle_bytes=1_000)) as mesh:
            await mesh.route(deployed({"1": [worker]}))
            await outcomes([mesh.infer(payload=b"x" * 600) for _ in range(5)])
        assert [len(bundle.items) for bundle in worker.bundles] == [0, 1, 2, 2]

    run(scenario())


def test_a_waiting_call_goes_to_whichever_worker_is_free_first() -> None:
    async def scenario() -> None:
        slow, fast = SimWorker("slow", {TARGET: 1}, seconds=1.0), SimWorker("fast", {TARGET: 1}, seconds=0.01)
        async with SimMesh(slow, fast) as mesh:
            await mesh.route(deployed({"1": [slow, fast]}))
            await outcomes([mesh.infer() for _ in range(20)])
        assert len(slow.received) == 1
        assert len(fast.received) == 19

    run(scenario())


def test_waiting_calls_leave_by_priority_then_deadline_then_arrival() -> None:
    async def scenario() -> None:
        worker = SimWorker("a", {TARGET: 1})
        async with SimMesh(worker) as mesh:
            await mesh.route(deployed({"1": [worker]}))
            await outcomes(
                [
                    mesh.infer(payload=b"sent at once"),
                    mesh.infer(payload=b"4th"),
                    mesh.infer(payload=b"5th"),
                    mesh.infer(payload=b"3rd", timeout=60),
                    mesh.infer(payload=b"2nd", timeout=30),
                    mesh.infer(payload=b"1st", priority=1),
                    mesh.infer(payload=b"6th", priority=-1, timeout=5),
                ]
            )
        assert payloads(worker) == [b"sent at once", b"1st", b"2nd", b"3rd", b"4th", b"5th", b"6th"]

    run(scenario())


def test_a_call_that_expires_in_the_queue_ends_on_time_and_reaches_no_worker() -> None:
    async def scenario() -> None:
        worker = SimWorker("a", {TARGET: 1}, seconds=5)
        async with SimMesh(worker) as mesh:
            await mesh.route(deployed({"1": [worker]}))
            began, first = loop_time(), mesh.infer(payload=b"long")
            waiting = mesh.infer(payload=b"short", timeout=0.2)

            with pytest.raises(DeadlineExceeded):
                await waiting
            assert loop_time() == pytest.approx(began + 0.2)
            await first
            await asyncio.sleep(10)
        assert payloads(worker) == [b"long"]

    run(scenario())


def test_a_call_that_expires_at_a_worker_ends_on_time_and_gives_its_credit_back() -> None:
    async def scenario() -> None:
        worker = SimWorker("a", {TARGET: 1}, seconds=1)
        async with SimMesh(worker) as mesh:
            await mesh.route(deployed({"1": [worker]}))
            began = loop_time()
            late, following = mesh.infer(payload=b"late", timeout=0.3), mesh.infer(payload=b"next")

            with pytest.raises(DeadlineExceeded):
                await late
            assert loop_time() == pytest.approx(began + 0.3)
            assert await following
            assert loop_time() == pytest.approx(began + 1.3, abs=0.01)
        assert worker.cancelled == [worker.received[0].id]

    run(scenario())


def test_a_deadline_that_has_passed_is_refused_before_anything_else() -> None:
    async def scenario() -> None:
        worker = SimWorker("a", {TARGET: 1})
        async with SimMesh(worker) as mesh:
            await mesh.route(deployed({"1": [worker]}))
            with pytest.raises(DeadlineExceeded):
                await mesh.infer(timeout=0)
        assert worker.received == []

    run(scenario())


def test_a_call_cancelled_in_the_queue_reaches_no_worker() -> None:
    async def scenario() -> None:
        worker = SimWorker("a", {TARGET: 1})
        async with SimMesh(worker) as mesh:
            await mesh.route(deployed({"1": [worker]}))
            first, second, third = mesh.infer(payload=b"1"), mesh.infer(payload=b"2"), mesh.infer(payload=b"3")
            second.cancel()
            await outcomes([first, third])
        assert payloads(worker) == [b"1", b"3"]
        assert worker.cancelled == []

    run(scenario())


def test_a_call_cancelled_before_its_bundle_leaves_is_not_sent() -> None:
    async def scenario() -> None:
        worker = SimWorker("a", {TARGET: 3})
        async with SimMesh(worker) as mesh:
            await mesh.route(deployed({"1": [worker]}))
            first, second, third = (mesh.infer(payload=text) for text in (b"1", b"2", b"3"))
            second.cancel()
            await asyncio.gather(first, third)
        assert payloads(worker) == [b"1", b"3"]
        assert worker.cancelled == []

    run(scenario())


def test_cancelling_the_task_that_awaits_a_call_cancels_it_at_the_worker() -> None:
    async def scenario() -> None:
        worker = SimWorker("a", {TARGET: 1}, seconds=5)
        async with SimMesh(worker) as mesh:
            await mesh.route(deployed({"1": [worker]}))

            async def caller() -> bytes:
                return await mesh.infer()

            task = asyncio.create_task(caller())
            await asyncio.sleep(1)
            task.cancel()
            await settle()
            assert worker.cancelled == [worker.received[0].id]
            assert mesh.core.dispatcher.in_flight() == 0

    run(scenario())


def test_a_full_queue_refuses_and_says_when_to_come_back() -> None:
    async def scenario() -> None:
        worker = SimWorker("a", {TARGET: 1}, seconds=0.5)
        async with SimMesh(worker) as mesh:
            await mesh.route(deployed({"1": [worker]}, max_queue=3))
            calls = [mesh.infer() for _ in range(5)]

            with pytest.raises(Overloaded) as caught:
                await calls[-1]
            assert caught.value.reason == "QUEUE_FULL"
            assert caught.value.retry_after == pytest.approx(1.5)
            assert all(isinstance(answer, bytes) for answer in await outcomes(calls[:-1]))

    run(scenario())


def test_what_waits_is_bounded_in_bytes_too() -> None:
    async def scenario() -> None:
        worker = SimWorker("a", {TARGET: 1})
        async with SimMesh(worker, limits=Limits(max_waiting_bytes=1_000)) as mesh:
            await mesh.route(deployed({"1": [worker]}))
            calls = [mesh.infer(payload=b"x" * 400) for _ in range(4)]

            answers = await outcomes(calls)

            assert [type(answer) for answer in answers] == [bytes, bytes, bytes, Overloaded]
            assert isinstance(await mesh.infer(payload=b"x" * 900), bytes)

    run(scenario())


def test_an_unknown_model_fails_at_once_and_is_counted_without_its_name() -> None:
    async def scenario() -> None:
        worker = SimWorker("a", {TARGET: 1})
        async with SimMesh(worker) as mesh:
            await mesh.route(deployed({"1": [worker]}))
            with pytest.raises(NotFound):
                await mesh.infer(deployment="a-name-that-a-client-made-up")
            [unrouted] = [stats for stats in mesh.core.stats() if stats.failed]
            assert (unrouted.model, unrouted.version, list(unrouted.failed)) == ("", "", ["NOT_FOUND"])

    run(scenario())


def test_ten_per_cent_of_the_traffic_is_ten_per_cent_of_the_calls() -> None:
    async def scenario() -> None:
        worker = SimWorker("a", {"digits/1": 32, "digits/2": 32})
        async with SimMesh(worker) as mesh:
            await mesh.route(deployed({"1": [worker], "2": [worker]}, weights={"1": 90, "2": 10}))
            await outcomes([mesh.infer() for _ in range(500)])
        assert abs(Counter(item.target for item in worker.received)["digits/2"] - 50) <= 3

    run(scenario())


def test_a_call_waits_for_a_worker_that_is_still_connecting() -> None:
    async def scenario() -> None:
        worker = SimWorker("a", {TARGET: 1}, up=False)
        async with SimMesh(worker) as mesh:
            await mesh.route(deployed({"1": [worker]}))
            call = mesh.infer()
            await asyncio.sleep(2)
            worker.revive()
            assert await call == b"a|digits/1|x"

    run(scenario())


def test_calls_are_held_while_the_only_worker_restarts() -> None:
    async def scenario() -> None:
        worker = SimWorker("a", {TARGET: 4}, seconds=0.5)
        async with SimMesh(worker) as mesh:
            await mesh.route(deployed({"1": [worker]}))
            under_way = [mesh.infer() for _ in range(4)]
            await asyncio.sleep(0.1)
            worker.kill()
            arriving = [mesh.infer() for _ in range(4)]
            await asyncio.sleep(3)
            worker.revive()
            assert set(await outcomes(under_way + arriving)) == {b"a|digits/1|x"}

    run(scenario())


def test_a_call_is_not_held_for_ever_and_later_ones_not_at_all() -> None:
    async def scenario() -> None:
        worker = SimWorker("a", {TARGET: 4})
        async with SimMesh(worker, limits=Limits(hold=5)) as mesh:
            await mesh.route(deployed({"1": [worker]}))
            worker.kill()
            await settle()
            began, held = loop_time(), mesh.infer()
            with pytest.raises(NotReady) as caught:
                await held
            assert caught.value.retry_after == 7.0
            assert loop_time() == pytest.approx(began + 5, abs=0.01)

            began = loop_time()
            with pytest.raises(NotReady):
                await mesh.infer()
            assert loop_time() == began

            worker.revive()
            await asyncio.sleep(5)
            assert isinstance(await mesh.infer(), bytes)

    run(scenario())


def test_the_deadline_of_a_held_call_comes_first() -> None:
    async def scenario() -> None:
        worker = SimWorker("a", {TARGET: 4}, up=False)
        async with SimMesh(worker) as mesh:
            await mesh.route(deployed({"1": [worker]}))
            began = loop_time()
            with pytest.raises(DeadlineExceeded):
                await mesh.infer(timeout=0.5)
            assert loop_time() == pytest.approx(began + 0.5)

    run(scenario())


def test_calls_that_wait_when_their_version_goes_are_resolved_anew() -> None:
    async def scenario() -> None:
        worker = SimWorker("a", {"digits/1": 1, "digits/2": 8})
        async with SimMesh(worker) as mesh:
            await mesh.route(deployed({"1": [worker]}))
            unnamed = [mesh.infer() for _ in range(5)]
            named = mesh.infer("1")

            await mesh.route(deployed({"2": [worker]}))

            answers = await outcomes(unnamed)
            assert Counter(answers) == {b"a|digits/1|x": 1, b"a|digits/2|x": 4}
            with pytest.raises(NotFound):
                await named

    run(scenario())


def test_a_flip_of_versions_under_load_fails_no_call() -> None:
    async def scenario() -> None:
        worker = SimWorker("a", {"digits/1": 4, "digits/2": 4}, seconds=0.003)
        async with SimMesh(worker) as mesh:
            await mesh.route(deployed({"1": [worker]}))
            calls = []
            for turn in range(200):
                calls += [mesh.infer() for _ in range(3)]
                await asyncio.sleep(0.005)
                if turn % 10 == 9:
                    await mesh.route(deployed({"2" if turn % 20 == 9 else "1": [worker]}))
            answers = await outcomes(calls)
        assert set(answers) == {b"a|digits/1|x", b"a|digits/2|x"}

    run(scenario())


def test_calls_are_parked_when_the_routes_lose_their_model_for_a_moment() -> None:
    async def scenario() -> None:
        a, b = SimWorker("a", {TARGET: 1}), SimWorker("b", {TARGET: 4})
        async with SimMesh(a, b) as mesh:
            await mesh.route(deployed({"1": [a]}))
            waiting = [mesh.infer() for _ in range(3)]
            a.kill()
            await mesh.route(deployed({"1": []}))
            arriving = [mesh.infer() for _ in range(3)]
            await asyncio.sleep(3)
            assert not any(call.done() for call in waiting + arriving)

            await mesh.route(deployed({"1": [b]}))

            assert set(await outcomes(waiting + arriving)) == {b"b|digits/1|x"}

    run(scenario())


def test_parking_ends_with_the_error_that_began_it() -> None:
    async def scenario() -> None:
        worker = SimWorker("a", {TARGET: 1})
        async with SimMesh(worker) as mesh:
            await mesh.route(deployed({"1": [worker]}))
            await mesh.route(deployed({"1": []}))
            began = loop_time()
            with pytest.raises(NotReady) as caught:
                await mesh.infer()
            assert caught.value.retry_after == 7.0
            assert loop_time() == pytest.approx(began + 5)
            began = loop_time()
            with pytest.raises(NotReady):
                await mesh.infer()
            assert loop_time() == began

    run(scenario())


def test_a_worker_that_leaves_the_routes_finishes_what_it_has() -> None:
    async def scenario() -> None:
        a, b = SimWorker("a", {TARGET: 4}, seconds=1), SimWorker("b", {TARGET: 4})
        async with SimMesh(a, b) as mesh:
            await mesh.route(deployed({"1": [a]}))
            calls = [mesh.infer() for _ in range(4)]
            await settle()

            await mesh.route(deployed({"1": [b]}), workers=[b])

            assert set(await outcomes(calls)) == {b"a|digits/1|x"}
            await settle()
            assert a.sessions == []

    run(scenario())


def test_a_draining_worker_gets_nothing_new_and_finishes_what_it_has() -> None:
    async def scenario() -> None:
        a, b = SimWorker("a", {TARGET: 2}, seconds=0.1), SimWorker("b", {TARGET: 2}, seconds=0.1)
        async with SimMesh(a, b) as mesh:
            await mesh.route(deployed({"1": [a, b]}))
            calls = [mesh.infer() for _ in range(40)]
            await asyncio.sleep(0.25)
            a.drain()
            before = len(a.received)

            async with asyncio.timeout(3):
                answers = await outcomes(calls)

            assert all(isinstance(answer, bytes) for answer in answers)
            assert len(a.received) == before

    run(scenario())


@pytest.mark.parametrize("turns", range(12))
@pytest.mark.parametrize("how", ["killed", "drained", "drained without calls"])
def test_stopping_ends_though_a_worker_leaves_at_that_moment(how: str, turns: int) -> None:
    async def scenario() -> None:
        a = SimWorker("a", {TARGET: 2}, seconds=0.1)
        mesh = SimMesh(a)
        await mesh.core.start()
        await mesh.route(deployed({"1": [a]}))
        calls = [] if how == "drained without calls" else [mesh.infer()]
        await settle()
        if how == "killed":
            a.kill()
        else:
            a.drain()
        await settle(turns)
        stopping = asyncio.create_task(mesh.core.stop())
        await asyncio.wait([stopping], timeout=30)
        assert stopping.done()
        assert all(isinstance(outcome, MeshError) for outcome in await outcomes(calls))

    run(scenario())


def test_a_target_that_a_worker_gives_up_gets_no_calls_there() -> None:
    async def scenario() -> None:
        a, b = SimWorker("a", {TARGET: 2}), SimWorker("b", {TARGET: 2})
        async with SimMesh(a, b) as mesh:
            await mesh.route(deployed({"1": [a, b]}))
            a.set_credit(TARGET, 0, gone=True)
            await settle()
            await outcomes([mesh.infer() for _ in range(10)])
        assert a.received == []

    run(scenario())


def test_stopping_ends_every_call_wherever_it_is() -> None:
    async def scenario() -> None:
        worker = SimWorker("a", {TARGET: 1, "faces/1": 1}, seconds=100)
        async with SimMesh(worker) as mesh:
            await mesh.route(deployed({"1": [worker]}), deployed({"1": [worker]}, name="faces"))
            calls = [mesh.infer(), mesh.infer()]
            await mesh.route(deployed({"1": [worker]}), deployed({"1": []}, name="faces"))
            calls.append(mesh.infer(deployment="faces"))
            await settle()
        calls.append(mesh.infer())

        for answer in await outcomes(calls):
            assert isinstance(answer, NotReady)
            assert answer.reason == "GATEWAY_STOPPING"

    run(scenario())


def test_an_unknown_policy_is_reported_and_the_calls_are_answered() -> None:
    async def scenario() -> None:
        a, b = SimWorker("a", {TARGET: 9}), SimWorker("b", {TARGET: 9})
        async with SimMesh(a, b) as mesh:
            await mesh.route(deployed({"1": [a, b]}, policy="no-such-policy"))
            await outcomes([mesh.infer() for _ in range(10)])
        assert len(a.received) == len(b.received) == 5

    run(scenario())


def test_what_calls_cost_is_counted_by_target() -> None:
    async def scenario() -> None:
        worker = SimWorker("a", {TARGET: 9})
        async with SimMesh(worker) as mesh:
            await mesh.route(deployed({"1": [worker]}))
            await outcomes([mesh.infer() for _ in range(10)])
            mesh.infer().cancel()
            [stats] = [stats for stats in mesh.core.stats() if stats.model]
        assert (stats.model, stats.version, stats.ok.count) == ("digits", "1", 10)
        assert (stats.queue_us, stats.compute_us) == (50, 70)
        assert stats.failed["CANCELLED"].count == 1

    run(scenario())


def test_in_flight_counts_calls_wherever_they_are() -> None:
    async def scenario() -> None:
        worker = SimWorker("a", {TARGET: 1})
        async with SimMesh(worker) as mesh:
            await mesh.route(deployed({"1": [worker]}))
            calls = [mesh.infer() for _ in range(3)]
            assert mesh.core.dispatcher.in_flight() == 3
            await outcomes(calls)
            assert mesh.core.dispatcher.in_flight() == 0

    run(scenario())


def test_nobody_is_harmed_by_an_unread_error() -> None:
    async def scenario() -> None:
        async with SimMesh() as mesh:
            await mesh.route()
            call = mesh.core.dispatcher.infer(Call("digits", "", b""))
            assert isinstance(call.exception(), NotFound)

    run(scenario())


def test_no_call_fails_through_restarts_of_the_scheduler() -> None:
    async def scenario() -> None:
        a, b = SimWorker("a", {TARGET: 4}, seconds=0.02), SimWorker("b", {TARGET: 4}, seconds=0.02)
        async with SimMesh(a, b) as mesh:
            await mesh.route(deployed({"1": [a, b]}))
            calls, scheduler = [], mesh.scheduler

            async def load() -> None:
                for _ in range(1_200):
                    calls.append(mesh.infer(timeout=2))
                    await asyncio.sleep(0.05)

            loading = asyncio.create_task(load())
            for life in range(3):
                await asyncio.sleep(3)
                scheduler.kill()
                await asyncio.sleep(4)
                scheduler.up = True
                # it knows nobody, then one, then both: as their heartbeats come in
                for revision, known in enumerate(([], [b], [a, b])):
                    route = deployed({"1": known})
                    scheduler.publish(snapshot(route, workers=known, revision=revision, epoch=f"life{life}"))
                    await asyncio.sleep(4)
            await loading
            found = await outcomes(calls)
        assert set(found) == {b"a|digits/1|x", b"b|digits/1|x"}
        assert min(len(a.received), len(b.received)) > 500

    run(scenario())


def test_a_policy_that_fails_costs_the_choice_and_not_the_call() -> None:
    async def scenario() -> None:
        a, b = SimWorker("a", {TARGET: 9}), SimWorker("b", {TARGET: 9})
        async with SimMesh(a, b) as mesh:
            await mesh.route(deployed({"1": [a, b]}))
            [target] = mesh.core._directory

            def broken(candidates: object, rng: object) -> NoReturn:
                raise ZeroDivisionError

            target.choose = broken
            assert all(isinstance(answer, bytes) for answer in await outcomes([mesh.infer() for _ in range(10)]))
        assert len(a.received) == len(b.received) == 5

    run(scenario())


def test_weights_of_workers_are_followed_as_snapshots_change_them() -> None:
    async def scenario() -> None:
        a, b = SimWorker("a", {TARGET: 2_000}), SimWorker("b", {TARGET: 2_000})
        async with SimMesh(a, b) as mesh:
            await mesh.route(deployed({"1": [a, b]}, policy="weighted"))
            routes = snapshot(deployed({"1": [a, b]}, policy="weighted"), workers=[a, b], revision=2)
            routes.workers[0].weight = 9.0
            mesh.scheduler.publish(routes)
            await settle()
            await outcomes([mesh.infer() for _ in range(1_000)])
        assert 850 < len(a.received) < 950

    run(scenario())


def test_a_restarted_worker_gets_a_stream_of_its_own() -> None:
    async def scenario() -> None:
        worker = SimWorker("a", {TARGET: 4}, seconds=1)
        async with SimMesh(worker) as mesh:
            await mesh.route(deployed({"1": [worker]}))
            earlier = mesh.infer()
            await settle()
            routes = snapshot(deployed({"1": [worker]}), workers=[worker], revision=2)
            routes.workers[0].incarnation = "2"
            mesh.scheduler.publish(routes)
            await settle()
            assert len(worker.sessions) == 2

            assert await mesh.infer() == await earlier
            await settle()
            assert len(worker.sessions) == 1

    run(scenario())


def test_the_gateway_ends_the_stream_of_a_draining_worker_once_it_has_read_all() -> None:
    # a worker that ended it would cut off what is still to be read, if something were written meanwhile
    async def scenario() -> None:
        worker = SimWorker("a", {TARGET: 4}, seconds=1)
        async with SimMesh(worker) as mesh:
            await mesh.route(deployed({"1": [worker]}))
            call = mesh.infer()
            stream = mesh.core.dispatcher.stream(Call("digits", "", b"s"))
            await settle()
            worker.drain()
            await call
            await settle()
            assert len(worker.sessions) == 1
            assert len([part async for part in stream]) == worker.responses
            await settle()
            assert not worker.sessions
            await asyncio.sleep(60)
            assert not worker.sessions  # it looks again now and then, and does not stay

    run(scenario())


def test_the_gateway_leaves_a_draining_worker_that_has_nothing_for_it() -> None:
    async def scenario() -> None:
        worker = SimWorker("a", {TARGET: 4})
        async with SimMesh(worker) as mesh:
            await mesh.route(deployed({"1": [worker]}))
            worker.drain()
            await settle()
            assert not worker.sessions

    run(scenario())
