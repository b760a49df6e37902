"""Writes down what the end of each worker would cost. Belongs to the leader."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

import structlog

from infermesh.errors import MeshError, NotFound
from infermesh.mesh.backoff import Backoff
from infermesh.mesh.clock import Clock
from infermesh.scheduler.deletion_cost import DeletionCosts
from infermesh.scheduler.demand import Demand
from infermesh.scheduler.fleet import Fleet
from infermesh.scheduler.scaling import INTERVAL
from infermesh.scheduler.workloads import Workloads


class CostWriter:
    """Keeps the costs up to date, as far as they matter. Errors are said once, and what failed is tried again."""

    def __init__(
        self,
        fleet: Fleet,
        demand: Callable[[], Demand],
        workloads: Workloads,
        *,
        may_act: Callable[[], bool],
        clock: Clock,
        backoff: Backoff,
    ) -> None:
        self._fleet = fleet
        self._demand = demand
        self._workloads = workloads
        self._may_act = may_act
        self._clock = clock
        self._backoff = backoff
        self._costs = DeletionCosts()
        self._turn = asyncio.Lock()
        self._complained = False
        self._log = structlog.get_logger(__name__)

    async def run(self) -> None:
        """Never returns; to be cancelled."""
        while True:
            await self._clock.sleep(INTERVAL)
            try:
                await self._write(at_once=False)
            except MeshError as error:
                if not self._complained:
                    self._complained = True
                    self._log.warning("deletion cost not written", error=error.message)
                await self._clock.sleep(self._backoff.pause())
            else:
                self._complained = False
                self._backoff.reset()

    async def refresh(self) -> None:
        """Writes every cost as of now, as well as it can: workers are about to be taken away."""
        with suppress(MeshError):
            await self._write(at_once=True)

    async def _write(self, *, at_once: bool) -> None:
        async with self._turn:
            demand = self._demand()
            if not demand.known:
                return
            self._costs.look(self._fleet.workers(), demand.loads)
            for worker, cost in self._costs.due(self._clock.time(), at_once=at_once):
                if not self._may_act():
                    return
                try:
                    await self._workloads.set_deletion_cost(worker, cost)
                except NotFound:
                    self._log.info("worker is no pod", worker=worker)
                    self._costs.forget(worker)
                else:
                    self._costs.wrote(worker, cost, self._clock.time())
