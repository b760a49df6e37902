"""Renews the plan: soon after something has changed, and when time alone changes something (a worker falls silent)."""

import asyncio
import time
from collections.abc import Sequence
from typing import Final

import structlog

from infermesh.mesh.clock import Clock
from infermesh.mesh.metrics import SchedulerMetrics
from infermesh.scheduler.control import Control
from infermesh.scheduler.latest import Latest
from infermesh.scheduler.model import Desired, Worker
from infermesh.v1.scheduler_service_pb2 import RouteSnapshot
from infermesh.v1.state_service_pb2 import DeploymentReport
from infermesh.v1.worker_pb2 import Assignment

_PAUSE: Final = 0.02  # seconds: changes that come together are planned together
_LOOKS: Final = 4  # times in a heartbeat interval that silent workers are looked for


class Renewal:
    """Feeds the control and publishes what it makes: `routes` and `reports`, whenever they differ from the last."""

    def __init__(self, control: Control, interval: float, clock: Clock, metrics: SchedulerMetrics) -> None:
        self._control = control
        self._interval = interval
        self._clock = clock
        self._metrics = metrics
        self._changed = asyncio.Event()
        self._retry_at = clock.time()
        self._waiting: list[asyncio.Future[None]] = []
        self._log = structlog.get_logger(__name__)
        self.routes: Latest[RouteSnapshot] = Latest()
        self.reports: Latest[Sequence[DeploymentReport]] = Latest()

    def want(self, desired: Desired) -> None:
        """Takes in what is wanted now."""
        self._control.want(desired)
        self._changed.set()

    async def hear(self, worker: Worker, *, leaving: bool) -> list[Assignment] | None:
        """Takes in a heartbeat; returns what the worker shall hold by a plan that has seen it, None if undecided.

        Safe to cancel: the heartbeat counts all the same.
        """
        self._control.hear(worker, self._clock.time(), leaving=leaving)
        if self._is_due():
            await self._renewed()
        return None if leaving else self._control.assignments(worker)

    def _is_due(self) -> bool:
        now = self._clock.time()
        return now >= self._retry_at and self._control.is_due(now)

    async def _renewed(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        self._changed.set()
        await waiter

    async def run(self) -> None:
        """Never returns; to be cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._look())
            group.create_task(self._renew())

    async def _look(self) -> None:
        while True:
            await self._clock.sleep(self._interval / _LOOKS)
            for worker in self._control.expire(self._clock.time()):
                self._metrics.workers_lost.inc()
                self._log.warning("worker lost", worker=worker.id, address=worker.address, held=len(worker.held))
            if self._is_due():
                self._changed.set()

    async def _renew(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            waiting, self._waiting = self._waiting, []
            begun = self._clock.time()
            if self._is_due():
                self._renew_once()
            for waiter in waiting:
                if not waiter.done():
                    waiter.set_result(None)
            # in a large mesh where something always changes, heartbeats must get their turn, too
            await self._clock.sleep(max(_PAUSE, self._clock.time() - begun))

    def _renew_once(self) -> None:
        begun = time.perf_counter()
        try:
            self._control.renew()
        except Exception:
            # a plug-in's policy, or a fault of ours: the last plan stays in force, since a mesh without plan is worse
            self._retry_at = self._clock.time() + self._interval
            self._metrics.plan_errors.inc()
            self._log.exception("plan failed")
            return
        self._metrics.plan_seconds.observe(time.perf_counter() - begun)
        self._publish()

    def _publish(self) -> None:
        control = self._control
        if control.routes is not None:
            self.routes.put(control.routes)
        if self.reports.value is None or list(self.reports.value) != list(control.reports):
            self.reports.put(control.reports)
        workers = control.fleet.workers()
        draining = sum(worker.draining for worker in workers)
        self._metrics.workers.labels("serving").set(len(workers) - draining)
        self._metrics.workers.labels("draining").set(draining)
        self._metrics.assignments.set(sum(map(len, control.plan.assignments.values())))
        self._metrics.unplaced.set(sum(item.replicas for item in control.plan.unplaced))
