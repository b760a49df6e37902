"""Telling the registry until it has heard; in virtual time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import grpc
import grpc.aio

from infermesh.mesh.backoff import Backoff
from infermesh.scheduler.latest import Latest
from infermesh.scheduler.reporter import Reporter
from infermesh.testing.clock import FakeClock
from infermesh.v1.state_service_pb2 import DeploymentReport, ReportDeploymentsRequest, ReportDeploymentsResponse

UNAVAILABLE = grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), "away")


class Stage:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.reports: Latest[Sequence[DeploymentReport]] = Latest()
        self.heard: list[list[int]] = []
        self.tries = 0
        self.away = False
        self.reporter = Reporter(self.report, self.reports, 15.0, self.clock, Backoff(lambda: 1.0))

    async def report(
        self, request: ReportDeploymentsRequest, *, timeout: float | None = None
    ) -> ReportDeploymentsResponse:
        assert timeout is not None, "a call without deadline may hang for ever"
        self.tries += 1
        if self.away:
            raise UNAVAILABLE
        self.heard.append([report.generation for report in request.reports])
        return ReportDeploymentsResponse()

    def put(self, *generations: int) -> None:
        self.reports.put([DeploymentReport(generation=number) for number in generations])


@contextlib.asynccontextmanager
async def running() -> AsyncIterator[Stage]:
    stage = Stage()
    task = asyncio.ensure_future(stage.reporter.run())
    await stage.clock.settle()
    try:
        yield stage
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_nothing_is_sent_before_anything_is_decided() -> None:
    async with running() as stage:
        stage.reporter.again()
        await stage.clock.advance(20)
        assert stage.tries == 0


async def test_changes_are_sent_at_once() -> None:
    async with running() as stage:
        stage.put(1)
        await stage.clock.settle()
        stage.put(1, 2)
        await stage.clock.settle()
        assert stage.heard == [[1], [1, 2]]


async def test_an_empty_report_is_sent_too() -> None:
    async with running() as stage:
        stage.put()
        await stage.clock.settle()
        assert stage.heard == [[]]


async def test_it_is_repeated_from_time_to_time() -> None:
    async with running() as stage:
        stage.put(1)
        await stage.clock.advance(14.9)
        assert stage.heard == [[1]]
        await stage.clock.advance(30.2)
        assert stage.heard == [[1]] * 4


async def test_it_is_repeated_when_the_registry_has_come_back() -> None:
    async with running() as stage:
        stage.put(1)
        await stage.clock.settle()
        stage.reporter.again()
        await stage.clock.settle()
        assert stage.heard == [[1], [1]]


async def test_what_was_not_taken_is_sent_until_it_is() -> None:
    async with running() as stage:
        stage.away = True
        stage.put(1)
        await stage.clock.advance(10)
        assert 5 <= stage.tries <= 14, "it tries again, and more and more rarely"
        stage.away = False
        await stage.clock.advance(2)
        assert stage.heard == [[1]]


async def test_only_the_newest_is_sent_after_an_absence() -> None:
    async with running() as stage:
        stage.away = True
        stage.put(1)
        await stage.clock.advance(1)
        stage.put(2)
        stage.put(3)
        stage.away = False
        await stage.clock.advance(2)
        assert stage.heard == [[3]]
