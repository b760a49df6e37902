"""Calls that no route leads anywhere for: which are kept for better routes, how long. Used by the dispatcher."""

import asyncio
from collections.abc import Callable, Mapping

from infermesh.errors import MeshError, NotReady
from infermesh.gateway import admission
from infermesh.gateway.admission import Limits
from infermesh.gateway.directory import Directory
from infermesh.gateway.parking import Parking
from infermesh.gateway.pending import Pending
from infermesh.gateway.routes import Route, RouteTable
from infermesh.gateway.stats import now_seconds
from infermesh.v1.deployment_pb2 import Deployment


class Unrouted:
    """Keeps calls in two ways.

    If nothing serves their deployment, but its pool may grow from nothing for them (`awaited`), they are held here
    until their deadline, and at most `Limits.cold_start` seconds from when they came; then they are told when to come
    back, as the pool is about to be there. If their deployment was there a moment ago, or the routes are still to come,
    they are parked until `Limits.hold` seconds after that moment. `resume` sends a call that has a route again.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        routes: RouteTable,
        directory: Directory,
        parking: Parking,
        limits: Limits,
        resume: Callable[[Pending], None],
    ) -> None:
        self._loop = loop
        self._routes = routes
        self._directory = directory
        self._parking = parking
        self._limits = limits
        self._resume = resume
        self._began = loop.time()
        self._held: dict[str, dict[Pending, asyncio.TimerHandle]] = {}
        self.begun = asyncio.Event()
        """Set when calls begin to be held for a deployment; whoever acts on it clears it."""

    def __len__(self) -> int:
        return sum(map(len, self._held.values()))

    def held(self) -> Mapping[str, int]:
        """Returns how many calls are held for each deployment that nothing serves."""
        return {deployment: len(calls) for deployment, calls in self._held.items()}

    def take(self, pending: Pending, error: MeshError) -> None:
        """Keeps a call whose target can't be found because of `error`, or ends it."""
        route = self._routes.routes.get(pending.call.deployment)
        if not isinstance(error, NotReady):
            pending.fail(error)
        elif route is not None and route.message.awaited and self._limits.cold_start:
            self._hold(pending, route)
        else:
            self._park(pending, error)

    def _hold(self, pending: Pending, route: Route) -> None:
        call = pending.call
        left = self._limits.cold_start - (now_seconds() - pending.started)
        refusal = self._refusal(pending, route)
        if left <= 0:
            refusal = admission.no_worker(call, self._limits.cold_start, route.retry_after())
        if refusal is not None:
            pending.fail(refusal)
            return
        room = self._held.setdefault(call.deployment, {})
        if not room:
            self.begun.set()
        room[pending] = self._loop.call_later(left, self._up, pending)
        self._directory.tally.bytes += len(call.payload)

    def _refusal(self, pending: Pending, route: Route) -> MeshError | None:
        call, limits = pending.call, self._limits
        if pending.attempts:  # what comes back from a worker was let in before
            return None
        limit = route.message.batching.max_queue or limits.max_queue
        if len(self._held.get(call.deployment, ())) >= limit:
            return admission.queue_full(call, limit, route.retry_after())
        if self._directory.tally.bytes + len(call.payload) > limits.max_waiting_bytes:
            return admission.memory_full(call, limits.max_waiting_bytes, route.retry_after())
        return None

    def _up(self, pending: Pending) -> None:
        self.leave(pending)
        route = self._routes.routes[pending.call.deployment]  # one without a route is not held
        pending.fail(admission.no_worker(pending.call, self._limits.cold_start, route.retry_after()))

    def overdue(self, pending: Pending) -> MeshError | None:
        """Returns with what a call ends that was held until its deadline; None for any other."""
        deployment = pending.call.deployment
        if pending not in self._held.get(deployment, ()):
            return None
        return admission.not_yet(pending.call, self._routes.routes[deployment].retry_after())

    def _park(self, pending: Pending, error: MeshError) -> None:
        known = self._routes.snapshot is not None
        since = self._directory.lost_at(pending.call.deployment) if known else self._began
        left = since + self._limits.hold - self._loop.time()
        if left > 0 and len(self._parking) < self._limits.max_queue:
            self._parking.park(pending, left, lambda: pending.fail(error))
        else:
            pending.fail(error)

    def leave(self, pending: Pending) -> None:
        """Forgets a call, if it is held here."""
        deployment = pending.call.deployment
        room = self._held.get(deployment, {})
        timer = room.pop(pending, None)
        if timer is None:
            return
        timer.cancel()
        self._directory.tally.bytes -= len(pending.call.payload)
        if not room:
            del self._held[deployment]

    def look(self) -> None:
        """Sends on what is held for deployments that the routes now tell something else of."""
        for deployment in list(self._held):
            if not self._still(deployment):
                for pending in list(self._held[deployment]):
                    self.leave(pending)
                    self._resume(pending)

    def _still(self, deployment: str) -> bool:
        route = self._routes.routes.get(deployment)
        if route is None or route.targets:
            return False
        return route.message.awaited and route.message.state != Deployment.FAILED

    def clear(self) -> list[Pending]:
        """Takes all calls out."""
        left = [pending for room in self._held.values() for pending in room]
        for pending in left:
            self.leave(pending)
        return left
