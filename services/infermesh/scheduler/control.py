"""The scheduler's mind: takes in what is wanted and what workers say, and makes the plan, the routes and the reports of
it. Synchronous, without clock or network; every method takes the time, in seconds."""

from collections.abc import Mapping, Sequence
from typing import Final

from infermesh.scheduler import status as statuses
from infermesh.scheduler.awaiting import LoadTimes, is_awaited, is_unmanned
from infermesh.scheduler.convert import assignment_of, remember
from infermesh.scheduler.fleet import Fleet
from infermesh.scheduler.model import Deployment, Desired, Plan, Worker
from infermesh.scheduler.placement.base import PlacementPolicy
from infermesh.scheduler.planner import plan
from infermesh.scheduler.routes import RouteBook, route_of, workers_of
from infermesh.scheduler.standing import standings, survey
from infermesh.v1.scheduler_service_pb2 import RouteSnapshot
from infermesh.v1.state_service_pb2 import DeploymentReport
from infermesh.v1.worker_pb2 import Assignment

_RECONNECT: Final = 1.2  # seconds: how long a channel of the mesh may take to look for a lost peer again, with jitter
_BEATS: Final = 2


def settling_time(interval: float) -> float:
    """Returns the seconds after the start in which every worker that is alive is heard, `interval` between heartbeats.

    It notices by its channel that the scheduler is back, tries within one interval, and has one more to spare.
    """
    return _RECONNECT + _BEATS * interval


class Control:
    """Knows what is wanted and what is there, and decides.

    Nothing is decided before both are known: what is wanted from the registry, and what is there from heartbeats. For
    these it waits until `settled_at`, by when every worker that is alive has been heard (see `settling_time`). So a
    scheduler that starts anew moves nothing. `from_zero` are the pools that grow from nothing when calls
    wait for them, with the kind of their devices (empty: any).
    """

    def __init__(
        self,
        fleet: Fleet,
        policy: PlacementPolicy,
        *,
        epoch: str,
        settled_at: float,
        from_zero: Mapping[str, str] | None = None,
    ) -> None:
        self.fleet = fleet
        self._policy = policy
        self._settled_at = settled_at
        self._from_zero = from_zero or {}
        self._load_times = LoadTimes()
        self._book = RouteBook(epoch)
        self._desired: Desired | None = None
        self._deployments: dict[str, Deployment] = {}
        self._planned: frozenset[tuple[str, str]] = frozenset()
        self._stale = True
        self.plan = Plan()
        self.routes: RouteSnapshot | None = None
        self.reports: Sequence[DeploymentReport] = ()

    @property
    def deployments(self) -> Mapping[str, Deployment]:
        """What was wanted when the plan was made, by id."""
        return self._deployments

    def want(self, desired: Desired) -> None:
        """Takes in what is wanted now."""
        self._desired = remember(self._desired or Desired(), desired)
        self._stale = True

    def hear(self, worker: Worker, now: float, *, leaving: bool) -> None:
        """Takes in a heartbeat."""
        changed = self.fleet.leave(worker, now) if leaving else self.fleet.hear(worker, now)
        self._stale |= changed

    def expire(self, now: float) -> list[Worker]:
        """Gives up the workers that have been silent for too long and returns them."""
        gone = self.fleet.expire(now)
        self._stale |= bool(gone)
        return gone

    def is_authoritative(self, now: float) -> bool:
        """Tells whether enough is known to decide."""
        return self._desired is not None and now >= self._settled_at

    def is_due(self, now: float) -> bool:
        """Tells whether something is known that the plan has not seen yet."""
        return self._stale and self.is_authoritative(now)

    def renew(self) -> None:
        """Makes plan, routes and reports anew. Raises what the placement policy raises; then all stays as it was."""
        desired, workers = self._desired or Desired(), self.fleet.workers()
        made = plan(desired, workers, self._policy)
        seen = survey(workers, made)
        routes, reports = [], []
        for deployment in desired.deployments:
            where = self._load_times.complete(deployment, standings(deployment, seen.get(deployment.id, {})))
            awaited, unmanned = is_awaited(deployment, where, self._from_zero), is_unmanned(deployment, workers)
            status = statuses.status_of(deployment, where, made.unplaced, unmanned=unmanned, awaited=awaited)
            routes.append(route_of(deployment, status, where, awaited=awaited))
            reports.append(statuses.report_of(deployment, status, where))
        self._load_times.forget(desired.deployments)
        self.plan, self.reports, self._stale = made, reports, False
        self.routes = self._book.write(workers_of(workers), routes)
        self._deployments = {deployment.id: deployment for deployment in desired.deployments}
        self._planned = frozenset((worker.id, worker.incarnation) for worker in workers)

    def assignments(self, worker: Worker) -> list[Assignment] | None:
        """Returns what the worker shall hold; None while that is not decided, so that it keeps what it has."""
        if (worker.id, worker.incarnation) not in self._planned:
            return None
        assigned = self.plan.assignments.get(worker.id, ())
        return [assignment_of(item, self._deployments[item.deployment]) for item in assigned]
