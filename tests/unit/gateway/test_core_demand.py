"""What the scheduler is told of waiting calls and busy workers; in virtual time."""

import asyncio
from collections.abc import Callable

import grpc
import grpc.aio
import pytest
from google.protobuf.duration_pb2 import Duration

from infermesh.v1.deployment_pb2 import Deployment
from infermesh.v1.scheduler_service_pb2 import (
    DeploymentDemand,
    DeploymentRoute,
    ReportDemandRequest,
    ReportDemandResponse,
)
from tests.unit.gateway.simulation import SimMesh, SimWorker, deployed, settle
from tests.unit.gateway.virtual import run

TARGET = "digits/1"


class Scheduler:
    """Keeps what it is told, with the time."""

    def __init__(self, interval: float = 1.0) -> None:
        self.interval = interval
        self.told: list[tuple[float, ReportDemandRequest]] = []
        self.refusal: grpc.StatusCode | None = None
        self.tries = 0

    async def __call__(self, request: ReportDemandRequest, *, timeout: float) -> ReportDemandResponse:
        self.tries += 1
        if self.refusal is not None:
            raise grpc.aio.AioRpcError(self.refusal, grpc.aio.Metadata(), grpc.aio.Metadata(), "no")
        self.told.append((asyncio.get_running_loop().time(), request))
        interval = Duration()
        interval.FromMilliseconds(round(self.interval * 1000))
        return ReportDemandResponse(interval=interval)

    @property
    def last(self) -> ReportDemandRequest:
        return self.told[-1][1]

    @property
    def row(self) -> DeploymentDemand:
        return self.last.deployments[0]


def awaited(name: str = "digits") -> DeploymentRoute:
    return DeploymentRoute(deployment=name, model=name, state=Deployment.DEPLOYING, awaited=True)


def scene(scenario: Callable[[SimMesh, Scheduler, SimWorker], object], **options: object) -> None:
    """Runs `scenario` with one worker of credit 2, whose calls take 10 s."""

    async def main() -> None:
        scheduler = Scheduler()
        worker = SimWorker("a", {TARGET: 2}, seconds=10.0)
        async with SimMesh(worker, tell=scheduler) as mesh:
            await scenario(mesh, scheduler, worker)  # type: ignore[misc]

    run(main())


def test_it_tells_every_second_even_if_there_is_nothing_to_tell() -> None:
    async def scenario(mesh: SimMesh, scheduler: Scheduler, worker: SimWorker) -> None:
        await asyncio.sleep(5.5)
        times = [time - scheduler.told[0][0] for time, _ in scheduler.told]
        assert times == pytest.approx([0, 1, 2, 3, 4, 5])
        assert scheduler.last == ReportDemandRequest(gateway="gw")

    scene(scenario)


def test_what_workers_have_and_what_waits_for_them() -> None:
    async def scenario(mesh: SimMesh, scheduler: Scheduler, worker: SimWorker) -> None:
        await mesh.route(deployed({"1": [worker]}))
        calls = [mesh.infer() for _ in range(5)]
        await asyncio.sleep(1.5)
        (row,) = scheduler.last.workers
        assert (row.worker, row.in_flight, row.credit) == ("a", 2, 2)
        assert (scheduler.row.waiting_calls, scheduler.row.waiting_rows, scheduler.row.unserved) == (3, 3, False)
        await asyncio.gather(*calls)
        await asyncio.sleep(1.1)
        assert (scheduler.row.waiting_calls, scheduler.row.ended) == (0, 5)
        assert scheduler.last.workers[0].in_flight == 0

    scene(scenario)


def test_the_first_call_that_is_held_is_told_at_once_and_the_next_ones_in_time() -> None:
    async def scenario(mesh: SimMesh, scheduler: Scheduler, worker: SimWorker) -> None:
        await mesh.route(awaited(), workers=[])
        await asyncio.sleep(0.5)
        before, now = len(scheduler.told), asyncio.get_running_loop().time()
        calls = [mesh.infer(), mesh.infer()]
        await settle()
        assert len(scheduler.told) == before + 1
        assert (scheduler.told[-1][0], scheduler.row.unserved, scheduler.row.waiting_calls) == (now, True, 2)
        calls.append(mesh.infer())
        await asyncio.sleep(0.9)
        assert len(scheduler.told) == before + 1
        await asyncio.sleep(0.2)
        assert scheduler.row.waiting_calls == 3
        for call in calls:
            call.cancel()

    scene(scenario)


def test_many_deployments_that_begin_to_wait_together_are_told_together() -> None:
    async def scenario(mesh: SimMesh, scheduler: Scheduler, worker: SimWorker) -> None:
        await mesh.route(*(awaited(f"d{number}") for number in range(50)), workers=[])
        await asyncio.sleep(0.5)
        before = len(scheduler.told)
        calls = []
        for number in range(50):
            calls.append(mesh.infer(deployment=f"d{number}"))
            await asyncio.sleep(0.002)
        await asyncio.sleep(0.06)
        assert len(scheduler.told) <= before + 4
        assert len(scheduler.last.deployments) == 50
        for call in calls:
            call.cancel()

    scene(scenario)


def test_calls_whose_worker_is_lost_are_unserved() -> None:
    async def scenario(mesh: SimMesh, scheduler: Scheduler, worker: SimWorker) -> None:
        await mesh.route(deployed({"1": [worker]}))
        call = mesh.infer()
        await asyncio.sleep(0.1)
        worker.kill()
        await asyncio.sleep(1.1)
        assert scheduler.row.unserved
        call.cancel()

    scene(scenario)


def test_the_predicted_wait_follows_from_how_fast_the_queue_moves() -> None:
    async def main() -> None:
        scheduler = Scheduler()
        worker = SimWorker("a", {TARGET: 4}, seconds=0.02)
        async with SimMesh(worker, tell=scheduler) as mesh:
            await mesh.route(deployed({"1": [worker]}))
            calls = [mesh.infer() for _ in range(600)]  # 200 a second
            await asyncio.sleep(1.5)
            wait = scheduler.row.predicted_wait.ToMilliseconds() / 1000
            assert wait == pytest.approx(scheduler.row.waiting_calls / 200, rel=0.3)
            await asyncio.gather(*calls)
            await asyncio.sleep(1.1)
            assert not scheduler.row.HasField("predicted_wait")

    run(main())


def test_a_scheduler_that_is_away_is_tried_again_soon_and_hears_how_things_are_then() -> None:
    async def scenario(mesh: SimMesh, scheduler: Scheduler, worker: SimWorker) -> None:
        scheduler.refusal = grpc.StatusCode.UNAVAILABLE
        await mesh.route(awaited(), workers=[])
        call = mesh.infer()
        await asyncio.sleep(20)
        assert 15 <= scheduler.tries <= 60
        scheduler.refusal = None
        await asyncio.sleep(1.1)
        assert scheduler.row.unserved
        call.cancel()
        await asyncio.sleep(1.1)
        assert not scheduler.last.deployments

    scene(scenario)


def test_an_older_scheduler_is_hardly_ever_asked() -> None:
    async def scenario(mesh: SimMesh, scheduler: Scheduler, worker: SimWorker) -> None:
        scheduler.refusal = grpc.StatusCode.UNIMPLEMENTED
        await asyncio.sleep(1.1)
        assert scheduler.tries <= 5

    scene(scenario)


def test_the_scheduler_says_how_often() -> None:
    async def main() -> None:
        scheduler = Scheduler(interval=0.2)
        async with SimMesh(tell=scheduler):
            await asyncio.sleep(2.1)
        assert len(scheduler.told) == pytest.approx(11, abs=1)

    run(main())


def test_the_load_of_a_worker_counts_what_it_is_busy_with() -> None:
    """Its other targets, which nobody calls, don't make a busy worker look idle."""

    async def main() -> None:
        scheduler = Scheduler()
        worker = SimWorker("a", {"digits/1": 2, "letters/1": 30}, seconds=10.0)
        async with SimMesh(worker, tell=scheduler) as mesh:
            await mesh.route(deployed({"1": [worker]}), deployed({"1": [worker]}, name="letters"))
            await asyncio.sleep(1.1)
            assert scheduler.last.workers[0].credit == 32
            calls = [mesh.infer(), mesh.infer()]
            await asyncio.sleep(1.1)
            assert (scheduler.last.workers[0].in_flight, scheduler.last.workers[0].credit) == (2, 2)
            await asyncio.gather(*calls)

    run(main())
