"""Follows the scheduler's routes, for ever, and decides what of them becomes the truth. Run by the core."""

import asyncio
from collections.abc import AsyncIterator, Callable
from random import Random
from typing import Any, Final

import grpc
import grpc.aio
import structlog

from infermesh.gateway.reconcile import reconcile
from infermesh.mesh.backoff import Backoff
from infermesh.v1.scheduler_service_pb2 import RouteSnapshot, WatchRoutesRequest
from infermesh.v1.scheduler_service_pb2_grpc import SchedulerServiceStub

_PATIENCE: Final = 1.0  # seconds after the start that a scheduler has to tell its routes before the last known are used

Subscribe = Callable[[], AsyncIterator[RouteSnapshot]]
"""Opens a stream of routes; iterating fails with grpc.RpcError."""

log = structlog.get_logger(__name__)


class Snapshots:
    """Turns what schedulers say into routes to be used, one snapshot at a time.

    A scheduler that has just started knows of workers only what their heartbeats have told it so far. So for `settle`
    seconds after a change of epoch, a worker that was routed to before, that the new epoch has not named yet and whose
    stream is whole (`trusted`) stays in the routes, and so do the deployments that it serves. A worker that the new
    epoch has named once is the scheduler's to drop. The time only counts while the scheduler is there: one that keeps
    dying must not wear the routes down. Within an epoch the scheduler is believed; an older revision is ignored.

    `known` are the routes that an earlier life of this gateway kept, used until a scheduler tells live ones; `keep` is
    given every snapshot that this life uses.
    """

    def __init__(
        self,
        apply: Callable[[RouteSnapshot], None],
        trusted: Callable[[str], bool],
        settle: float,
        *,
        known: RouteSnapshot | None = None,
        keep: Callable[[RouteSnapshot], None] | None = None,
    ) -> None:
        self._apply = apply
        self._known = known
        self._keep = keep
        self._trusted = trusted
        self._settle = settle
        self._told: RouteSnapshot | None = None  # the last that came
        self._used: RouteSnapshot | None = None  # the last that was applied
        self._base: RouteSnapshot | None = None  # what was used before this epoch, while settling
        self._named: set[str] = set()  # workers that this epoch has named
        self._timer: asyncio.TimerHandle | None = None

    def take(self, snapshot: RouteSnapshot) -> None:
        """Takes the next snapshot from a scheduler."""
        if self._told is not None and snapshot.epoch == self._told.epoch:
            if snapshot.revision < self._told.revision:
                return
        elif self._used is not None:
            self._base, self._named = self._used, set()
        self._told = snapshot
        self._named.update(worker.id for worker in snapshot.workers)
        if self._base is None:
            self._use(snapshot)
            return
        keep = {w.id for w in self._base.workers if w.id not in self._named and self._trusted(w.id)}
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._settle, self._settled)
            log.info("scheduler restarted", epoch=snapshot.epoch, workers_kept=sorted(keep))
        self._use(reconcile(self._base, snapshot, keep))

    def recall(self) -> None:
        """No scheduler has told its routes in time: the last known ones, if there are any, are better than none."""
        known, self._known = self._known, None
        if self._used is not None or known is None:
            return
        try:
            self._apply(known)
        except Exception:
            # they are only kept if they worked once; that may have been another release
            log.exception("routes of an earlier life failed")
            return
        log.warning("routes of an earlier life in use", deployments=len(known.deployments))
        self._used = known

    def away(self) -> None:
        """The scheduler can't be reached: what is used stays in use, and time does not count."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _settled(self) -> None:
        self._timer = self._base = None
        if self._told is not None:
            self._use(self._told)

    def _use(self, snapshot: RouteSnapshot) -> None:
        self._used = snapshot
        self._apply(snapshot)
        if self._keep is not None:
            self._keep(snapshot)


class RouteWatch:
    """Keeps a WatchRoutes stream open."""

    def __init__(self, subscribe: Subscribe, snapshots: Snapshots, rng: Random) -> None:
        self._subscribe = subscribe
        self._snapshots = snapshots
        self._backoff = Backoff(rng.random)

    async def run(self) -> None:
        """Follows the scheduler until cancelled; reconnects for ever, with a growing pause."""
        patience = asyncio.get_running_loop().call_later(_PATIENCE, self._snapshots.recall)
        try:
            await self._follow()
        finally:
            patience.cancel()

    async def _follow(self) -> None:
        while True:
            error = "the stream ended"
            try:
                async for snapshot in self._subscribe():
                    self._backoff.reset()
                    self._snapshots.take(snapshot)
            except grpc.RpcError as failure:
                error = str(failure.details() or failure.code().name) if isinstance(failure, grpc.Call) else "failed"
            except Exception:
                # a fault of ours must not end the watch: what is used stays in use
                log.exception("routes failed")
            self._snapshots.away()
            self._snapshots.recall()
            pause = self._backoff.pause()
            log.info("scheduler away", error=error, retry_in=round(pause, 2))
            await asyncio.sleep(pause)


def subscription(channel: grpc.aio.Channel, gateway: str) -> Subscribe:
    """Returns what opens a stream of routes over the scheduler's channel."""
    stub: Any = SchedulerServiceStub(channel)  # type: ignore[no-untyped-call]

    def subscribe() -> AsyncIterator[RouteSnapshot]:
        stream: AsyncIterator[RouteSnapshot] = stub.WatchRoutes(WatchRoutesRequest(gateway=gateway))
        return stream

    return subscribe
