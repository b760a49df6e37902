"""Looks at the pools of workers every second, and at once when calls begin to wait where there is no worker. Belongs to
the leader; what is made of it is done by KEDA (`scaler_servicer`) or by `replicas`."""

import asyncio
from collections.abc import Mapping
from typing import Final

from infermesh.mesh.clock import Clock
from infermesh.mesh.metrics import PoolMetrics
from infermesh.scheduler.autoscaler import Autoscaler, Signals, Smoothing
from infermesh.scheduler.control import Control
from infermesh.scheduler.demand import Demand, DemandBook
from infermesh.scheduler.latest import Latest
from infermesh.scheduler.membership import Pool, PoolDemand
from infermesh.scheduler.pools import PoolConfig
from infermesh.v1.scheduler_service_pb2 import ReportDemandRequest

INTERVAL: Final = 1.0
"""Seconds between two looks, and between two reports of a gateway."""


class Scaling:
    """Turns what gateways tell into the signals of each pool."""

    def __init__(self, control: Control, pools: Mapping[str, PoolConfig], clock: Clock, metrics: PoolMetrics) -> None:
        self._control = control
        self._clock = clock
        self._metrics = metrics
        self._book = DemandBook()
        self._wake = asyncio.Event()
        now = clock.time()
        self._pools = {name: _Watched(name, config, now, metrics) for name, config in pools.items()}

    @property
    def signals(self) -> Mapping[str, Latest[Signals]]:
        """The signals of each pool, new with every look."""
        return {name: pool.signals for name, pool in self._pools.items()}

    def demand(self) -> Demand:
        """Returns what gateways tell, summed up."""
        return self._book.demand(self._clock.time())

    def hear(self, report: ReportDemandRequest) -> None:
        """Takes in what a gateway tells."""
        if self._book.hear(report, self._clock.time()):
            self._wake.set()

    def close(self) -> None:
        """Ends everything that follows the signals, now and later."""
        for pool in self._pools.values():
            pool.signals.close()

    async def run(self) -> None:
        """Never returns; to be cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._tick())
                group.create_task(self._follow())
        finally:
            self._metrics.clear()  # who leads no longer has nothing to say

    async def _tick(self) -> None:
        while True:
            await self._clock.sleep(INTERVAL)
            self._wake.set()

    async def _follow(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            self._look()

    def _look(self) -> None:
        now, demand = self._clock.time(), self.demand()
        if self._control.routes is None:  # nothing was planned yet: who is there, and what is wanted, is not known
            demand = Demand()
        workers = self._control.fleet.workers()
        for pool in self._pools.values():
            pool.look(Pool(pool.name, pool.config, workers).demand(demand, self._control.deployments), now)


class _Watched:
    """One pool."""

    def __init__(self, name: str, config: PoolConfig, now: float, metrics: PoolMetrics) -> None:
        self.name = name
        self.config = config
        self.signals: Latest[Signals] = Latest()
        self._smoothing = Smoothing(config, now)
        self._autoscaler = Autoscaler(config, now)
        self._metrics = metrics

    def look(self, demand: PoolDemand, now: float) -> None:
        signals = self._smoothing.take(demand, now)
        self.signals.put(signals)
        metrics, name = self._metrics, self.name
        metrics.workers.labels(name).set(signals.workers)
        metrics.waiting_rows.labels(name).set(demand.rows)
        metrics.busy.labels(name).set(signals.utilization)
        metrics.wait_seconds.labels(name).set(demand.wait)
        metrics.active.labels(name).set(signals.active)
        if self.config.autoscaling == "keda":  # it decides itself; this is what we would do
            metrics.desired.labels(name).set(self._autoscaler.desired(signals, signals.workers, now))
