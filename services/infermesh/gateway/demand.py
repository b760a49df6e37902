"""Tells the scheduler what waits in this gateway and what workers have of it, so that pools of workers grow and shrink.
Run by the core; looks at the dispatcher's parts from outside, so that calls pay nothing for it."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from random import Random
from typing import Any, Final, Protocol

import grpc
import grpc.aio
import structlog

from infermesh.gateway import foresight
from infermesh.gateway.directory import Directory
from infermesh.gateway.fleet import Fleet
from infermesh.gateway.routes import RouteTable
from infermesh.gateway.targets import TargetState
from infermesh.gateway.unrouted import Unrouted
from infermesh.mesh.backoff import Backoff
from infermesh.v1.scheduler_service_pb2 import (
    DeploymentDemand,
    ReportDemandRequest,
    ReportDemandResponse,
    WorkerDemand,
)
from infermesh.v1.scheduler_service_pb2_grpc import SchedulerServiceStub

_TIMEOUT: Final = 1.0  # seconds
_LEAST: Final = 0.05  # seconds between two reports, whatever begins to wait meanwhile
_INTERVAL: Final = 1.0  # seconds between two reports where the scheduler doesn't say
_UNKNOWN: Final = 30.0  # seconds until an older scheduler, which takes no reports, is asked again

log = structlog.get_logger(__name__)


class Tell(Protocol):
    """The call of SchedulerService; `telling` returns one."""

    def __call__(self, request: ReportDemandRequest, *, timeout: float) -> Awaitable[ReportDemandResponse]:
        """Sends a report. Awaiting raises grpc.RpcError."""
        ...


def telling(channel: grpc.aio.Channel) -> Tell:
    """Returns what sends reports over the scheduler's channel."""
    stub: Any = SchedulerServiceStub(channel)  # type: ignore[no-untyped-call]
    tell: Tell = stub.ReportDemand
    return tell


class DemandReporter:
    """Sends what `look` returns, as often as the scheduler wants, and at once when `begun` is set.

    A report that is not taken is not kept: the next one says how things are then.
    """

    def __init__(self, tell: Tell, look: Callable[[], ReportDemandRequest], begun: asyncio.Event, rng: Random) -> None:
        self._tell = tell
        self._look = look
        self._begun = begun
        self._backoff = Backoff(rng.random, most=1.0)
        self._refused: grpc.StatusCode | None = None

    async def run(self) -> None:
        """Never returns; to be cancelled."""
        while True:
            self._begun.clear()
            pause = await self._report()
            await asyncio.sleep(min(pause, _LEAST))
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, pause - _LEAST)):
                    await self._begun.wait()

    async def _report(self) -> float:
        """Returns the seconds until the next report is due."""
        try:
            response = await self._tell(self._look(), timeout=_TIMEOUT)
        except grpc.RpcError as error:
            code = error.code() if isinstance(error, grpc.Call) else grpc.StatusCode.UNKNOWN
            if code != self._refused:
                log.info("demand not taken", code=code.name)
            self._refused = code
            return _UNKNOWN if code is grpc.StatusCode.UNIMPLEMENTED else self._backoff.pause()
        self._refused = None
        self._backoff.reset()
        return response.interval.ToTimedelta().total_seconds() or _INTERVAL


@dataclass(frozen=True, slots=True)
class View:
    """What there is to see of a gateway."""

    gateway: str
    routes: RouteTable
    directory: Directory
    fleet: Fleet
    held: Unrouted

    def demand(self) -> ReportDemandRequest:
        """Returns the report as of now."""
        now = asyncio.get_running_loop().time()
        ended = self._ended()
        targets: dict[str, list[TargetState]] = {}
        for target in self.directory:
            targets.setdefault(target.route.deployment, []).append(target)
        held = self.held.held()
        rows = (
            _deployment(name, held.get(name, 0), targets.get(name, ()), ended.get(name, 0), now)
            for name in self.routes.routes
        )
        return ReportDemandRequest(
            gateway=self.gateway,
            deployments=[row for row in rows if row.waiting_calls or row.ended],
            workers=self._workers(),
        )

    def _ended(self) -> dict[str, int]:
        """Returns how many calls of each deployment have ended since the start."""
        ended: dict[str, int] = {}
        for stats in self.directory.stats():
            count = sum(series.count for _, series in stats.series())
            ended[stats.model] = ended.get(stats.model, 0) + count
        return ended

    def _workers(self) -> list[WorkerDemand]:
        found: dict[str, WorkerDemand] = {}
        for link in self.fleet:
            row = found.setdefault(link.key.id, WorkerDemand(worker=link.key.id))
            row.in_flight += len(link.calls)
            row.credit += link.calls.credit()
        return list(found.values())


def _deployment(name: str, held: int, targets: Iterable[TargetState], ended: int, now: float) -> DeploymentDemand:
    waiting, wait, unserved = held, 0.0, held > 0
    for target in targets:
        if target.queue:
            waiting += len(target.queue)
            unserved |= not target.live()
            wait = max(wait, predicted_wait(target, now))
    row = DeploymentDemand(deployment=name, waiting_rows=waiting, waiting_calls=waiting, unserved=unserved, ended=ended)
    if wait:
        row.predicted_wait.FromTimedelta(timedelta(seconds=wait))
    return row


def predicted_wait(target: TargetState, now: float) -> float:
    """Returns the seconds that a call which comes now would wait for a worker; 0 while that is not known."""
    if not target.live():
        return 0.0
    if foresight.told(target.lanes):
        return max(0.0, foresight.turn(target.lanes, len(target.queue), now) - now)
    return target.forecast.wait(len(target.queue), now)
