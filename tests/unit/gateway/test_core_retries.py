"""Calls that come back without an answer: which are sent again, where, and how often."""

import asyncio

import pytest
from google.protobuf.any_pb2 import Any
from google.rpc.status_pb2 import Status

from infermesh.errors import BadTensor, Internal, InvalidInput, MeshError, NotReady, Overloaded, WorkerLost
from infermesh.gateway.admission import Limits
from infermesh.gateway.calls import Call
from infermesh.v1.worker_service_pb2 import ResultBundle, ResultItem, WorkItem
from tests.unit.gateway.simulation import SimMesh, SimWorker, deployed, outcomes, settle
from tests.unit.gateway.virtual import run

TARGET = "digits/1"


def failing(error: MeshError, *, not_started: bool = False, times: int = 10**9) -> SimWorker:
    """Returns a worker, `bad`, that answers its first `times` calls with an error."""
    left = [times]

    def outcome(_: WorkItem) -> tuple[MeshError, bool] | None:
        left[0] -= 1
        return (error, not_started) if left[0] >= 0 else None

    return SimWorker("bad", {TARGET: 8}, outcome=outcome)


async def answers(workers: list[SimWorker], count: int, **limits: float) -> list[bytes | BaseException]:
    async with SimMesh(*workers, limits=Limits(**limits)) as mesh:  # type: ignore[arg-type]
        await mesh.route(deployed({"1": workers}))
        return await outcomes([mesh.infer() for _ in range(count)])


def test_no_call_of_5000_fails_when_a_worker_is_killed_in_the_middle() -> None:
    async def scenario() -> None:
        a, b = SimWorker("a", {TARGET: 32}), SimWorker("b", {TARGET: 32})
        async with SimMesh(a, b) as mesh:
            await mesh.route(deployed({"1": [a, b]}))
            calls = [mesh.infer(payload=b"%d" % n, timeout=60) for n in range(5_000)]
            await asyncio.sleep(0.2)
            a.kill()
            found = await outcomes(calls)
        assert [f for f in found if isinstance(f, BaseException)] == []
        assert [f.rpartition(b"|")[2] for f in found] == [b"%d" % n for n in range(5_000)]

    run(scenario())


def test_a_call_lost_with_its_runner_goes_to_another_worker() -> None:
    good = SimWorker("good", {TARGET: 8})

    assert set(run(answers([failing(WorkerLost("runner died")), good], 16))) == {b"good|digits/1|x"}


@pytest.mark.parametrize("error", [NotReady("unloading"), Overloaded("queue full")])
def test_a_call_that_was_not_begun_goes_to_another_worker(error: MeshError) -> None:
    good = SimWorker("good", {TARGET: 8})

    assert set(run(answers([failing(error, not_started=True), good], 16))) == {b"good|digits/1|x"}


@pytest.mark.parametrize(
    ("error", "not_started"),
    [(BadTensor.of("x", "FP32", "INT8"), False), (InvalidInput("bad"), True), (Overloaded("full"), False)],
)
def test_every_other_error_is_the_answer(error: MeshError, not_started: bool) -> None:
    bad = failing(error, not_started=not_started)

    found = run(answers([bad, SimWorker("other", {TARGET: 8})], 4))

    failed = [f for f in found if isinstance(f, BaseException)]
    assert len(failed) == len(bad.received) == 2
    assert all(type(f) is type(error) and f.message == error.message for f in failed)


def test_a_call_is_sent_so_often_at_most() -> None:
    bad = failing(WorkerLost("again"))

    [found] = run(answers([bad], 1, max_attempts=3))

    assert isinstance(found, WorkerLost)
    assert len(bad.received) == 3


def test_the_only_worker_gets_a_moment_before_it_is_tried_again() -> None:
    async def scenario() -> None:
        bad = failing(WorkerLost("runner died"), times=1)
        async with SimMesh(bad) as mesh:
            await mesh.route(deployed({"1": [bad]}))
            began = asyncio.get_running_loop().time()
            assert await mesh.infer() == b"bad|digits/1|x"
            assert asyncio.get_running_loop().time() >= began + 0.05

    run(scenario())


def test_a_call_that_pauses_can_be_cancelled() -> None:
    async def scenario() -> None:
        bad = failing(WorkerLost("runner died"), times=1)
        async with SimMesh(bad) as mesh:
            await mesh.route(deployed({"1": [bad]}))
            call = mesh.infer()
            await asyncio.sleep(0.03)
            assert mesh.core.dispatcher.in_flight() == 1
            call.cancel()
            await asyncio.sleep(1)
            assert mesh.core.dispatcher.in_flight() == 0
        assert len(bad.received) == 1

    run(scenario())


def test_a_call_waits_for_a_worker_that_has_not_failed_it() -> None:
    async def scenario() -> None:
        bad, good = failing(WorkerLost("runner died")), SimWorker("good", {TARGET: 1}, seconds=1)
        async with SimMesh(bad, good) as mesh:
            await mesh.route(deployed({"1": [bad, good]}))
            found = await outcomes([mesh.infer() for _ in range(6)])
        assert set(found) == {b"good|digits/1|x"}
        ids = [item.payload for item in bad.received]
        assert len(ids) <= 5  # each at most once: the others were good's from the start

    run(scenario())


def test_retries_stop_when_the_budget_is_spent() -> None:
    bad = failing(WorkerLost("again"))

    found = run(answers([bad, failing_too()], 100, retry_budget=0.0, retry_floor=0.0, retry_reserve=7))

    assert all(isinstance(f, WorkerLost) for f in found)


def failing_too() -> SimWorker:
    worker = failing(WorkerLost("again"))
    worker.name = "worse"
    return worker


def test_the_budget_bounds_the_extra_load() -> None:
    bad, worse = failing(WorkerLost("again")), failing_too()

    run(answers([bad, worse], 1_000, retry_budget=0.1, retry_floor=0.0, retry_reserve=7))

    assert len(bad.received) + len(worse.received) <= 1_000 + 7 + 100


def test_one_death_is_covered_however_much_it_hands_back_and_the_next_one_is_not() -> None:
    async def scenario() -> None:
        a, b = SimWorker("a", {TARGET: 500}, seconds=0.1), SimWorker("b", {TARGET: 500}, seconds=0.1)
        async with SimMesh(a, b, limits=Limits(retry_floor=0, retry_reserve=10, retry_budget=0.1)) as mesh:
            await mesh.route(deployed({"1": [a, b]}))
            calls = [mesh.infer() for _ in range(800)]
            await asyncio.sleep(0.05)
            a.kill()
            assert set(await outcomes(calls)) == {b"b|digits/1|x"}
            a.revive()
            await asyncio.sleep(1)

            calls = [mesh.infer() for _ in range(800)]  # earns 80, the death before cost 400
            await asyncio.sleep(0.05)
            a.kill()
            found = await outcomes(calls)
            assert sum(isinstance(one, WorkerLost) for one in found) == 400

    run(scenario())


def test_what_never_left_the_gateway_is_sent_elsewhere_without_touching_the_budget() -> None:
    async def scenario() -> None:
        a, b = SimWorker("a", {TARGET: 8}, write_seconds=1), SimWorker("b", {TARGET: 8})
        async with SimMesh(a, b, limits=Limits(retry_floor=0, retry_reserve=1, max_attempts=1)) as mesh:
            await mesh.route(deployed({"1": [a]}))
            await asyncio.sleep(2)
            being_written = mesh.infer(payload=b"1")
            await settle()
            behind_it = [mesh.infer(payload=b"2") for _ in range(7)]
            await mesh.route(deployed({"1": [a, b]}))
            a.kill()

            assert set(await outcomes(behind_it)) == {b"b|digits/1|2"}
            with pytest.raises(WorkerLost):
                await being_written
        assert a.received == []

    run(scenario())


def test_a_stream_that_has_not_begun_is_sent_again() -> None:
    async def scenario() -> None:
        a, b = SimWorker("a", {TARGET: 1}, seconds=1), SimWorker("b", {TARGET: 1})
        async with SimMesh(a, b) as mesh:
            await mesh.route(deployed({"1": [a, b]}))
            stream = mesh.core.dispatcher.stream(Call("digits", "", b"q"))
            await asyncio.sleep(0.5)
            (a if a.received else b).kill()
            assert len({payload async for payload in stream}) == 1

    run(scenario())


def test_a_stream_that_breaks_after_its_first_response_ends_as_unavailable() -> None:
    async def scenario() -> None:
        a, b = SimWorker("a", {TARGET: 1}, seconds=1), SimWorker("b", {TARGET: 1}, seconds=1)
        async with SimMesh(a, b) as mesh:
            await mesh.route(deployed({"1": [a, b]}))
            stream = mesh.core.dispatcher.stream(Call("digits", "", b"q"))
            first = await anext(stream)
            (a if first.startswith(b"a") else b).kill()

            with pytest.raises(WorkerLost):
                await anext(stream)
            assert len(a.received) + len(b.received) == 1

    run(scenario())


def test_a_worker_that_says_nothing_on_a_new_stream_gets_no_calls_and_is_tried_again() -> None:
    async def scenario() -> None:
        mute, good = SimWorker("mute", {TARGET: 1}, mute=True), SimWorker("good", {TARGET: 1})
        async with SimMesh(mute, good, limits=Limits(connect_timeout=1)) as mesh:
            await mesh.route(deployed({"1": [mute, good]}))
            assert set(await outcomes([mesh.infer() for _ in range(8)])) == {b"good|digits/1|x"}
            mute.mute = False
            await asyncio.sleep(3)
            await outcomes([mesh.infer() for _ in range(8)])
        assert mute.received != []

    run(scenario())


def test_nonsense_from_a_worker_costs_one_stream_and_no_call() -> None:
    async def scenario() -> None:
        a, b = SimWorker("a", {TARGET: 4}, seconds=1), SimWorker("b", {TARGET: 4}, seconds=1)
        async with SimMesh(a, b) as mesh:
            await mesh.route(deployed({"1": [a, b]}))
            calls = [mesh.infer() for _ in range(8)]
            await settle()
            a.sessions[0].send("not a bundle")  # type: ignore[arg-type]
            a.up = False

            assert set(await outcomes(calls)) == {b"b|digits/1|x"}

    run(scenario())


def test_an_error_that_cannot_be_read_is_a_fault_of_the_mesh() -> None:
    async def scenario() -> None:
        worker = SimWorker("a", {TARGET: 4}, seconds=1)
        async with SimMesh(worker) as mesh:
            await mesh.route(deployed({"1": [worker]}))
            call = mesh.infer()
            await settle()
            broken = Any(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=b"\xff\xff")
            status = Status(code=3, message="?", details=[broken])
            worker.sessions[0].send(ResultBundle(results=[ResultItem(id=1, error=status, final=True)]))

            with pytest.raises(Internal, match="can't be read"):
                await call

    run(scenario())
