"""The service as callers see it, without a network."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from google.protobuf.duration_pb2 import Duration
from prometheus_client import CollectorRegistry

from infermesh.errors import InvalidInput
from infermesh.mesh.metrics import SchedulerMetrics
from infermesh.scheduler.control import Control
from infermesh.scheduler.convert import desired_of
from infermesh.scheduler.fleet import Fleet
from infermesh.scheduler.placement.spread import Spread
from infermesh.scheduler.renewal import Renewal
from infermesh.scheduler.servicer import Servicer
from infermesh.testing.clock import FakeClock
from infermesh.v1 import scheduler_service_pb2 as pb
from infermesh.v1.deployment_pb2 import Batching, Deployment
from infermesh.v1.model_pb2 import ModelVersion
from infermesh.v1.state_service_pb2 import DesiredDeployment, DesiredState, ResolvedTarget
from infermesh.v1.worker_pb2 import Assignment, Device, HeldVersion, Worker

WANTED = DesiredState(
    deployments=[
        DesiredDeployment(
            deployment=Deployment(name="deployments/d", model="models/m", batching=Batching(max_batch_size=4)),
            targets=[ResolvedTarget(version="1", weight=1)],
            versions=[ModelVersion(name="models/m/versions/1", digest="sha256:1", backend="torch")],
        )
    ]
)
ASSIGNMENT = Assignment(
    deployment="d", version="models/m/versions/1", digest="sha256:1", batching=Batching(max_batch_size=4)
)


def worker(name: str = "w1", **fields: object) -> Worker:
    message = Worker(
        name=f"workers/{name}", address="h:1", incarnation="i", device=Device(kind="cpu"), backends=["torch"]
    )
    message.MergeFrom(Worker(**fields))  # type: ignore[arg-type]
    return message


class Stage:
    def __init__(self, settling: float) -> None:
        self.clock = FakeClock()
        now = self.clock.time()
        self.fleet = Fleet(1.5, now)
        control = Control(self.fleet, Spread(), epoch="e", settled_at=now + settling)
        self.renewal = Renewal(control, 1.5, self.clock, SchedulerMetrics(CollectorRegistry()))
        self.reports: list[pb.ReportDemandRequest] = []
        self.servicer = Servicer(self.renewal, self.fleet, 1.5, self.reports.append)

    async def beat(self, message: Worker, *, leaving: bool = False) -> pb.HeartbeatResponse:
        call = asyncio.ensure_future(
            self.servicer.Heartbeat(pb.HeartbeatRequest(worker=message, leaving=leaving), None)
        )
        await self.clock.advance(0.1)
        return await call


@contextlib.asynccontextmanager
async def serving(settling: float = 0.0) -> AsyncIterator[Stage]:
    stage = Stage(settling)
    task = asyncio.ensure_future(stage.renewal.run())
    try:
        yield stage
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_a_heartbeat_is_answered_with_everything_to_hold() -> None:
    async with serving() as stage:
        stage.renewal.want(desired_of(WANTED))
        assert await stage.beat(worker()) == pb.HeartbeatResponse(
            assignments=[ASSIGNMENT], interval=Duration(seconds=1, nanos=500_000_000), authoritative=True
        )


async def test_an_undecided_scheduler_gives_no_orders() -> None:
    async with serving(settling=60) as stage:
        stage.renewal.want(desired_of(WANTED))
        response = await stage.beat(worker())
        assert not response.authoritative
        assert not response.assignments
        assert response.interval.ToMilliseconds() == 1500


async def test_a_leaving_worker_is_forgotten_and_gets_no_orders() -> None:
    async with serving() as stage:
        stage.renewal.want(desired_of(WANTED))
        await stage.beat(worker())
        assert not (await stage.beat(worker(), leaving=True)).authoritative
        listed = await stage.servicer.ListWorkers(pb.ListWorkersRequest(), None)
        assert not listed.workers


async def test_a_replaced_process_gets_no_orders() -> None:
    async with serving() as stage:
        stage.renewal.want(desired_of(WANTED))
        await stage.beat(worker())
        young = worker()
        young.incarnation = "young"
        assert (await stage.beat(young)).authoritative
        assert not (await stage.beat(worker())).authoritative


@pytest.mark.parametrize(
    "message",
    [
        Worker(),
        Worker(name="w1", address="h:1", incarnation="i"),
        Worker(name="workers/w1", address="h:1"),
        Worker(name="workers/w1", incarnation="i"),
    ],
)
async def test_a_worker_that_cannot_be_named_or_reached_is_refused(message: Worker) -> None:
    async with serving() as stage:
        with pytest.raises(InvalidInput):
            await stage.servicer.Heartbeat(pb.HeartbeatRequest(worker=message), None)
        assert not stage.fleet.workers()


async def test_routes_come_whole_at_once_and_after_every_change() -> None:
    async with serving() as stage:
        stage.renewal.want(desired_of(WANTED))
        await stage.beat(worker())
        routes = stage.servicer.WatchRoutes(pb.WatchRoutesRequest(gateway="g"), None)
        first = await anext(routes)
        assert (first.epoch, [route.deployment for route in first.deployments]) == ("e", ["d"])
        assert not first.deployments[0].traffic
        ready = HeldVersion(deployment="d", version="1", digest="sha256:1", state=HeldVersion.READY)
        await stage.beat(worker(held=[ready]))
        second = await anext(routes)
        assert second.revision > first.revision
        assert [(share.version, share.weight) for share in second.deployments[0].traffic] == [("1", 1)]
        assert [(each.id, each.address) for each in second.workers] == [("w1", "h:1")]


async def test_no_routes_are_told_before_they_are_known() -> None:
    """A gateway would take an empty snapshot for the truth and drop what it has."""
    async with serving(settling=5.0) as stage:
        stage.renewal.want(desired_of(WANTED))
        first = asyncio.ensure_future(anext(stage.servicer.WatchRoutes(pb.WatchRoutesRequest(), None)))
        await stage.clock.advance(4.9)
        assert not first.done()
        await stage.clock.advance(1.0)
        assert first.done()


async def test_workers_are_listed_as_they_described_themselves_page_by_page() -> None:
    async with serving() as stage:
        described = [worker(name, labels={"zone": "a"}, device=Device(memory_free_bytes=5)) for name in ("a", "b", "c")]
        for message in reversed(described):
            await stage.beat(message)
        first = await stage.servicer.ListWorkers(pb.ListWorkersRequest(page_size=2), None)
        assert list(first.workers) == described[:2]
        second = await stage.servicer.ListWorkers(
            pb.ListWorkersRequest(page_size=2, page_token=first.next_page_token), None
        )
        assert list(second.workers) == described[2:]
        assert second.next_page_token == ""


async def test_gateways_tell_what_waits_and_hear_when_to_tell_again() -> None:
    async with serving() as stage:
        report = pb.ReportDemandRequest(gateway="g")
        answer = await stage.servicer.ReportDemand(report, None)
        assert (answer.interval, stage.reports) == (Duration(seconds=1), [report])
        with pytest.raises(InvalidInput, match="gateway"):
            await stage.servicer.ReportDemand(pb.ReportDemandRequest(), None)
