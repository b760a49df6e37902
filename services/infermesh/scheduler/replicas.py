"""Sets the number of workers of a pool whose autoscaling is `builtin`. Belongs to the leader."""

from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from infermesh.errors import Conflict, MeshError
from infermesh.mesh.backoff import Backoff
from infermesh.mesh.clock import Clock
from infermesh.mesh.metrics import PoolMetrics
from infermesh.scheduler.autoscaler import Autoscaler, Signals
from infermesh.scheduler.latest import Latest
from infermesh.scheduler.pools import PoolConfig
from infermesh.scheduler.workloads import Scale, Workloads

_LOOK_AGAIN: Final = 10.0  # seconds after which a number that somebody else has set is noticed


class Replicas:
    """Follows `signals`, those of one pool.

    `may_act` is asked right before a change; `before_fewer` is awaited before workers are taken away. While the API
    does not answer, or refuses, it is tried again and again, and said once.
    """

    def __init__(
        self,
        name: str,
        pool: PoolConfig,
        signals: Latest[Signals],
        workloads: Workloads,
        *,
        may_act: Callable[[], bool],
        before_fewer: Callable[[], Awaitable[None]] | None,
        clock: Clock,
        backoff: Backoff,
        metrics: PoolMetrics,
    ) -> None:
        self._name = name
        self._workload = pool.workload
        self._signals = signals
        self._workloads = workloads
        self._autoscaler = Autoscaler(pool, clock.time())
        self._may_act = may_act
        self._before_fewer = before_fewer
        self._clock = clock
        self._backoff = backoff
        self._metrics = metrics
        self._known: Scale | None = None
        self._read_at = 0.0
        self._complained = False
        self._log = structlog.get_logger(__name__)

    async def run(self) -> None:
        """Returns when the signals are closed. Safe to cancel; a change under way may still be carried out."""
        async for seen in self._signals.watch():
            try:
                await self._step(seen)
            except Conflict:
                self._known = None  # somebody else was quicker: look again
            except MeshError as error:
                await self._failed(error)
            else:
                self._complained = False
                self._backoff.reset()

    async def _failed(self, error: MeshError) -> None:
        self._known = None
        self._metrics.errors.labels(self._name).inc()
        if not self._complained:
            self._complained = True
            self._log.warning("pool not scaled", pool=self._name, workload=self._workload, error=error.message)
        await self._clock.sleep(self._backoff.pause())

    async def _step(self, signals: Signals) -> None:
        known = self._known
        if known is None or self._clock.time() - self._read_at >= _LOOK_AGAIN:
            known = await self._read()
        wanted = self._wanted(signals, known)
        if wanted == known.replicas:
            return
        if wanted < known.replicas and self._before_fewer is not None:
            await self._before_fewer()
        known = await self._read()
        wanted = self._wanted(signals, known)
        if wanted != known.replicas and self._may_act():
            self._known = await self._workloads.set_scale(self._workload, Scale(wanted, known.version))
            reasons = {"rows": signals.rows, "busy": round(signals.utilization, 2), "wait": round(signals.wait, 3)}
            self._log.info("pool scaled", pool=self._name, before=known.replicas, after=wanted, **reasons)

    async def _read(self) -> Scale:
        self._known = await self._workloads.scale(self._workload)
        self._read_at = self._clock.time()
        return self._known

    def _wanted(self, signals: Signals, known: Scale) -> int:
        wanted = self._autoscaler.desired(signals, known.replicas, self._clock.time())
        self._metrics.desired.labels(self._name).set(wanted)
        return wanted
