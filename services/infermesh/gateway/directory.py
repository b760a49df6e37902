"""The targets that calls may go to, brought in line with the routes. Used by the dispatcher."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf
from random import Random

import structlog

from infermesh.errors import ConfigError
from infermesh.gateway.balancing import DEFAULT_POLICY, BalancingPolicy, policies
from infermesh.gateway.fleet import Fleet
from infermesh.gateway.queueing import Tally
from infermesh.gateway.routes import RouteTable, TargetRoute
from infermesh.gateway.stats import TargetStats
from infermesh.gateway.targets import Lane, TargetState
from infermesh.names import Target

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Changes:
    """What a sync did. The queues of `removed` targets are left as they were."""

    added: list[TargetState] = field(default_factory=list)
    kept: list[TargetState] = field(default_factory=list)
    removed: list[TargetState] = field(default_factory=list)


class Directory:
    """Targets by name. What was counted for a target is kept when it goes: counters never fall."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self.targets: dict[Target, TargetState] = {}
        """All targets, always the same dictionary; not to be changed."""
        self._stats: dict[Target, TargetStats] = {}
        self._lost: dict[str, float] = {}
        self._table = policies()
        self._policies: dict[str, BalancingPolicy] = {}
        self.tally = Tally()

    def find(self, name: str) -> TargetState | None:
        """Returns the target of that name, if routes lead there."""
        return self.targets.get(Target(name))

    def __iter__(self) -> Iterator[TargetState]:
        return iter(list(self.targets.values()))

    def stats(self) -> list[TargetStats]:
        """Returns what was counted for every target that there is or was."""
        return list(self._stats.values())

    def lost_at(self, deployment: str) -> float:
        """Returns when a deployment last lost a target; minus infinity if it never did."""
        return self._lost.get(deployment, -inf)

    def sync(self, routes: RouteTable, fleet: Fleet, now: float) -> Changes:
        """Makes the targets and their lanes those of `routes`."""
        changes = Changes()
        for name in [name for name in self.targets if name not in routes.targets]:
            target = self.targets.pop(name)
            target.leave()
            self._lost[target.route.deployment] = now
            changes.removed.append(target)
        for name, route in routes.targets.items():
            known = self.targets.get(name)
            target = known or self._add(route)
            target.follow(route, self._policy(route.policy), _lanes(route, fleet))
            (changes.kept if known else changes.added).append(target)
        return changes

    def _add(self, route: TargetRoute) -> TargetState:
        stats = self._stats.setdefault(route.name, TargetStats(route.deployment, route.version))
        target = self.targets[route.name] = TargetState(route, stats, self.tally, self._rng)
        return target

    def _policy(self, name: str) -> BalancingPolicy:
        """Returns the policy called `name`. An unknown one is reported once and stood in for: the deployment was
        accepted, so its calls must be answered."""
        name = name or DEFAULT_POLICY
        if name not in self._policies:
            try:
                self._policies[name] = self._table.load(name)
            except (ConfigError, ImportError, AttributeError) as error:
                log.error("balancing policy unusable", policy=name, error=str(error), used=DEFAULT_POLICY)
                self._policies[name] = self._table.load(DEFAULT_POLICY)
        return self._policies[name]


def _lanes(route: TargetRoute, fleet: Fleet) -> tuple[Lane, ...]:
    links = [fleet.link(worker) for worker in route.workers]
    return tuple(link.calls.lane(route.name) for link in links if link is not None)
