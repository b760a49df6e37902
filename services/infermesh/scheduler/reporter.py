"""Tells the registry what became of its deployments: after every change, and again from time to time."""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Final, Protocol

import grpc.aio
import structlog

from infermesh.mesh.backoff import Backoff
from infermesh.mesh.clock import Clock
from infermesh.scheduler.latest import Latest
from infermesh.v1.state_service_pb2 import DeploymentReport, ReportDeploymentsRequest, ReportDeploymentsResponse

_TIMEOUT: Final = 5.0


class ReportDeployments(Protocol):
    """The call of StateService; a stub's attribute is one."""

    def __call__(
        self, request: ReportDeploymentsRequest, *, timeout: float | None = None
    ) -> Awaitable[ReportDeploymentsResponse]:
        """Sends a report. Awaiting raises grpc.aio.AioRpcError."""
        ...


class Reporter:
    """Sends the newest reports until they have arrived; what was overtaken meanwhile is not sent.

    They are sent again every `interval` seconds: reports are states, so repeating does no harm, and a registry that was
    put back to an older state learns the truth.
    """

    def __init__(
        self,
        report: ReportDeployments,
        reports: Latest[Sequence[DeploymentReport]],
        interval: float,
        clock: Clock,
        backoff: Backoff,
    ) -> None:
        self._report = report
        self._reports = reports
        self._interval = interval
        self._clock = clock
        self._backoff = backoff
        self._wake = asyncio.Event()
        self._log = structlog.get_logger(__name__)

    def again(self) -> None:
        """Sends what there is once more, now: the registry has come back."""
        self._wake.set()

    async def run(self) -> None:
        """Never returns; to be cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow())
            group.create_task(self._repeat())
            group.create_task(self._send())

    async def _follow(self) -> None:
        async for _ in self._reports.watch():
            self._wake.set()

    async def _repeat(self) -> None:
        while True:
            await self._clock.sleep(self._interval)
            self._wake.set()

    async def _send(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._reports.value is None:
                continue  # nothing is decided yet
            try:
                await self._report(ReportDeploymentsRequest(reports=self._reports.value), timeout=_TIMEOUT)
                self._backoff.reset()
            except grpc.aio.AioRpcError as error:
                self._wake.set()
                self._log.info("report not taken", code=error.code().name, details=error.details())
                await self._clock.sleep(self._backoff.pause())
