"""The core of the gateway, put together: routes, workers and the dispatcher. `main` builds it, front ends use it."""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from random import Random

from opentelemetry.trace import Tracer
from prometheus_client import CollectorRegistry

from infermesh.gateway.admission import Limits
from infermesh.gateway.demand import DemandReporter, Tell, View
from infermesh.gateway.directory import Directory
from infermesh.gateway.dispatch import Dispatcher
from infermesh.gateway.fleet import Fleet
from infermesh.gateway.last_known import LastKnown
from infermesh.gateway.routes import RouteTable
from infermesh.gateway.stats import GatewayMetrics, TargetStats
from infermesh.gateway.streams import Connect, WireServeStream
from infermesh.gateway.tracing import Tracing
from infermesh.gateway.upstream import Link, WorkerKey
from infermesh.gateway.watch import RouteWatch, Snapshots, Subscribe
from infermesh.v1.scheduler_service_pb2 import RouteSnapshot


class Core:
    """Lives from `start` to `stop`; both are called once, in the event loop in which it was made.

    `gateway` is the process' name, for the logs of others; `subscribe` opens a stream of routes (of a scheduler's
    channel: `watch.subscription`); `connect` opens a stream to a worker; `last_known` is read now and written from
    `start` on; `tell` reports to the scheduler what waits here (`demand.telling`).
    """

    def __init__(
        self,
        *,
        gateway: str,
        subscribe: Subscribe,
        registry: CollectorRegistry,
        tracer: Tracer,
        limits: Limits | None = None,
        rng: Random | None = None,
        connect: Connect = WireServeStream,
        last_known: LastKnown | None = None,
        tell: Tell | None = None,
    ) -> None:
        self._gateway = gateway
        self._last_known = last_known
        self._limits = limits or Limits()
        self._rng = rng or Random()
        self._connect = connect
        self._fleet = Fleet(self._link)
        self._directory = Directory(self._rng)
        self.routes = RouteTable(self._rng)
        self.dispatcher = Dispatcher(self.routes, self._directory, self._fleet, self._limits, Tracing(tracer))
        known, keep = (last_known.read(), last_known.keep) if last_known is not None else (None, None)
        self._snapshots = Snapshots(self.apply, self._fleet.trusted, self._limits.settle, known=known, keep=keep)
        self._watch = RouteWatch(subscribe, self._snapshots, self._rng)
        self._reporter = self._demand(tell) if tell is not None else None
        self._running: asyncio.Task[None] | None = None
        GatewayMetrics(registry, self.stats, lambda: self._directory)

    async def start(self) -> None:
        """Starts watching the routes and connecting to workers; returns at once."""
        started = asyncio.Event()
        self._running = asyncio.create_task(self._run(started), name="gateway core")
        await started.wait()

    async def _run(self, started: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as tasks:
            self._fleet.run_in(tasks)
            tasks.create_task(self._watch.run(), name="watch routes")
            if self._reporter is not None:
                tasks.create_task(self._reporter.run(), name="report demand")
            if self._last_known is not None:
                tasks.create_task(self._last_known.run(), name="keep routes")
            started.set()

    async def stop(self) -> None:
        """Ends every stream; calls that are still under way fail with NotReady. Drain first."""
        self.dispatcher.stop()
        if self._running is not None:
            self._running.cancel()
            with suppress(asyncio.CancelledError):
                await self._running
        self._snapshots.away()

    def connected(self) -> bool:
        """Tells whether there are routes, live or last known."""
        return self.routes.snapshot is not None

    def apply(self, snapshot: RouteSnapshot) -> None:
        """Makes a snapshot the truth."""
        self.routes.apply(snapshot)
        self.dispatcher.refresh()

    def stats(self) -> Iterable[TargetStats]:
        """Returns what was counted for every target so far, and for calls that had none (with empty names)."""
        return [*self._directory.stats(), self.dispatcher.unrouted]

    def _demand(self, tell: Tell) -> DemandReporter:
        held = self.dispatcher.held
        view = View(self._gateway, self.routes, self._directory, self._fleet, held)
        return DemandReporter(tell, view.demand, held.begun, self._rng)

    def _link(self, key: WorkerKey) -> Link:
        return Link(
            key,
            gateway=self._gateway,
            connect=self._connect,
            sink=self.dispatcher,
            limits=self._limits,
            rng=self._rng,
        )
