"""What a gateway foresees from what workers tell, and what it does with it."""

import asyncio

import pytest

from infermesh.errors import Overloaded
from infermesh.gateway import foresight
from infermesh.gateway.targets import Lane
from infermesh.v1.worker_service_pb2 import ResultBundle, TargetLoad
from tests.unit.gateway.simulation import SimMesh, SimWorker, deployed, settle
from tests.unit.gateway.virtual import run

TARGET = "digits/1"


def lane(free_at: float = 0.0, in_flight: int = 1, **told: float) -> Lane:
    made = Lane(worker="a", ledger=None, target=TARGET, live=True, credit=8, in_flight=in_flight)  # type: ignore[arg-type]
    made.free_at, made.running, made.service_time_us = free_at, in_flight, int(told.get("row", 0.01) * 1e6)
    made.single_seconds, made.batch_seconds = told.get("single", 0.02), told.get("batch", 0.05)
    return made


def test_the_earliest_answer_is_a_run_after_the_first_worker_is_free() -> None:
    lanes = [lane(free_at=101.0), lane(free_at=100.5)]
    assert foresight.earliest(lanes, 0, now=100.0) == pytest.approx(100.52)
    assert foresight.earliest(lanes, 4, now=100.0) == pytest.approx(100.55), "so many wait that batches are full"
    assert foresight.earliest(lanes, 0, now=102.0) == pytest.approx(102.02), "what was foreseen is past"


def test_an_idle_worker_is_taken_at_no_word() -> None:
    assert foresight.earliest([lane(in_flight=0, single=9.0)], 0, now=100.0) == 100.0
    assert foresight.earliest([], 0, now=100.0) == 100.0


def test_the_turn_of_the_last_comes_when_all_before_it_are_done_at_the_best_pace() -> None:
    lanes = [lane(free_at=100.1), lane(free_at=100.3)]
    assert foresight.turn(lanes, 39, now=100.0) == pytest.approx(100.2 + 40 * 0.01 / 2)
    assert foresight.turn([], 39, now=100.0) == 100.0


def test_workers_that_tell_nothing_are_left_to_the_forecast() -> None:
    assert not foresight.told([lane(single=0.0)])
    assert foresight.told([lane()])


def load(worker: SimWorker, free: float) -> ResultBundle:
    told = TargetLoad(target=TARGET, credit=1, in_flight=1, service_time_us=10_000)
    told.free_us, told.batch_us, told.single_us = int(free * 1e6), 30_000, 20_000
    return ResultBundle(loads=[told])


def test_a_call_that_waits_is_refused_as_soon_as_its_worker_will_not_be_free_in_time() -> None:
    async def scenario() -> None:
        worker = SimWorker("a", {TARGET: 1}, seconds=5)
        async with SimMesh(worker) as mesh:
            await mesh.route(deployed({"1": [worker]}))
            first = mesh.infer()
            patient, hasty = mesh.infer(timeout=20.0), mesh.infer(timeout=1.0)
            await settle()
            began = asyncio.get_running_loop().time()
            worker.sessions[0].send(load(worker, free=2.0))

            with pytest.raises(Overloaded, match="deadline"):
                await hasty
            assert asyncio.get_running_loop().time() == began
            with pytest.raises(Overloaded, match="deadline"):
                await mesh.infer(timeout=1.0)
            assert await first
            assert await patient

    run(scenario())


def test_least_load_waits_for_a_quick_worker_rather_than_queue_at_a_slow_one() -> None:
    async def scenario() -> None:
        quick = SimWorker("quick", {TARGET: 2}, seconds=0.01)
        slow = SimWorker("slow", {TARGET: 2}, seconds=1.0)
        async with SimMesh(quick, slow) as mesh:
            await mesh.route(deployed({"1": [quick, slow]}, policy="least_load"))
            calls = [mesh.infer(payload=b"%d" % number) for number in range(5)]
            answers = await asyncio.gather(*calls)
        assert sum(answer.startswith(b"slow") for answer in answers) <= 1, answers

    run(scenario())
