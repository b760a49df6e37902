"""Where deployments are: an immutable view of the last route snapshot. Used by the dispatcher and the front ends."""

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Final

from infermesh.errors import LoadFailed, MeshError, NotFound, NotReady
from infermesh.gateway.shares import Shares
from infermesh.names import Target, parse_target, target_of
from infermesh.v1.deployment_pb2 import Deployment
from infermesh.v1.scheduler_service_pb2 import DeploymentRoute, RouteSnapshot, RouteWorker, VersionRoute
from infermesh.v1.worker_pb2 import HeldVersion

_RETRY_AFTER: Final = 1.0  # seconds, where nothing was measured


@dataclass(frozen=True, slots=True)
class TargetRoute:
    """Where the calls of one version of one deployment go.

    `max_queue` 0 means the gateway's default, `hedge_budget` 0 that no call is sent twice, `hedge_delay` (seconds) 0
    that it follows from what is measured.
    """

    name: Target
    deployment: str
    version: str
    workers: tuple[str, ...]
    policy: str
    max_queue: int
    retry_after: float
    hedge_budget: float = 0.0
    hedge_delay: float = 0.0
    single_flight: bool = False


class Route:
    """One deployment, compiled: everything that a call needs is one look-up away."""

    def __init__(self, message: DeploymentRoute, workers: Mapping[str, RouteWorker], rng: Random) -> None:
        self.message = message
        self.versions = {version.version: version for version in message.versions}
        self.targets = {
            version.version: self._target(version, [worker for worker in version.workers if worker in workers])
            for version in message.versions
            if any(worker in workers for worker in version.workers)
        }
        ready = {version: target.name for version, target in self.targets.items()}
        self.names: dict[str, Target] = {
            **{alias: ready[version] for alias, version in message.aliases.items() if version in ready},
            **ready,
        }
        weights = [(ready[share.version], share.weight) for share in message.traffic if share.version in ready]
        self.shares = Shares([(name, weight) for name, weight in weights if weight > 0], rng)
        self.main = max(weights, key=lambda pair: pair[1])[0] if weights else None

    def _target(self, version: VersionRoute, workers: list[str]) -> TargetRoute:
        deployment = self.message.deployment
        return TargetRoute(
            name=target_of(deployment, version.version),
            deployment=deployment,
            version=version.version,
            workers=tuple(workers),
            policy=self.message.policy,
            max_queue=self.message.batching.max_queue,
            retry_after=self.retry_after(version),
            hedge_budget=self.message.hedging.budget,
            hedge_delay=self.message.hedging.delay.ToTimedelta().total_seconds(),
            single_flight=self.message.single_flight,
        )

    def retry_after(self, version: VersionRoute | None = None) -> float:
        """Returns the seconds after which a call may find the version loaded: what loading was measured to take."""
        known = [v.load_seconds for v in self.message.versions]
        return (version.load_seconds if version else 0) or max(known, default=0) or _RETRY_AFTER

    def awaited(self, version: str) -> VersionRoute | None:
        """Returns what calls to `version` (empty, a number or an alias) are held for; None if they aren't."""
        message = self.message
        if not message.awaited or message.state == Deployment.FAILED or version in self.names:
            return None
        first = max(message.traffic, key=lambda share: share.weight, default=None)
        number = message.aliases.get(version, version) or (first.version if first is not None else "")
        return self.versions.get(number)

    def refusal(self, version: str) -> MeshError:
        """Returns why no call can go to `version` (empty, a number or an alias), which is not in `names`."""
        if not version:
            return self._no_traffic()
        number = self.message.aliases.get(version, version)
        found = self.versions.get(number)
        if found is None:
            return self._unknown(version)
        metadata = {"model": self.message.deployment, "version": number}
        if found.state == HeldVersion.FAILED:
            text = f"version {number} of model '{self.message.deployment}' failed to load: {found.reason}"
            return LoadFailed(text, metadata=metadata)
        doing = "is loading" if found.state == HeldVersion.LOADING else "is on no worker yet"
        text = f"version {number} of model '{self.message.deployment}' {doing}: try again later"
        return NotReady(text, metadata=metadata, retry_after=self.retry_after(found))

    def _no_traffic(self) -> MeshError:
        name, metadata = self.message.deployment, {"model": self.message.deployment}
        if self.message.state == Deployment.FAILED:
            return LoadFailed(f"model '{name}' failed to load: {self.message.reason}", metadata=metadata)
        text = f"model '{name}' is not ready: no version of it is on a worker yet, try again later"
        return NotReady(text, metadata=metadata, retry_after=self.retry_after())

    def _unknown(self, version: str) -> NotFound:
        known = ", ".join([*self.versions, *sorted(self.message.aliases)]) or "none"
        name = f"{self.message.deployment}/{version}"
        return NotFound.of("version", name, f"model '{self.message.deployment}' has the versions and aliases: {known}")


class RouteTable:
    """The routes as of `snapshot`, which is None until the first one has come."""

    def __init__(self, rng: Random | None = None) -> None:
        self._rng = rng or Random()
        self.snapshot: RouteSnapshot | None = None
        self.workers: dict[str, RouteWorker] = {}
        self.routes: dict[str, Route] = {}
        self.targets: dict[Target, TargetRoute] = {}

    def apply(self, snapshot: RouteSnapshot) -> None:
        """Makes `snapshot` the truth. It must not be changed afterwards."""
        workers = {worker.id: worker for worker in snapshot.workers}
        routes = {route.deployment: Route(route, workers, self._rng) for route in snapshot.deployments}
        self.targets = {target.name: target for route in routes.values() for target in route.targets.values()}
        self.snapshot, self.workers, self.routes = snapshot, workers, routes

    def resolve(self, deployment: str, version: str) -> Target:
        """Returns where the next call goes: the shares decide if `version` is empty, so that each call may differ.

        Raises NotFound, NotReady or LoadFailed.
        """
        route = self.routes.get(deployment)
        if route is None:
            raise self._no_deployment(deployment)
        if not version:
            shares = route.shares
            if shares.only is not None:
                return shares.only
            if shares:
                return shares.draw()
        name = route.names.get(version)
        if name is None:
            raise route.refusal(version)
        return name

    def deployment(self, name: str) -> DeploymentRoute:
        """Returns the route of a deployment. Raises NotFound, or NotReady while no snapshot has come."""
        route = self.routes.get(name)
        if route is None:
            raise self._no_deployment(name)
        return route.message

    def version(self, deployment: str, version: str) -> VersionRoute:
        """Returns what answers for `version` (empty, a number or an alias) of a deployment now.

        Empty means the version with the largest share. Raises NotFound, NotReady (with `retry_after`) or LoadFailed.
        """
        self.deployment(deployment)
        route = self.routes[deployment]
        name = route.names.get(version) if version else route.main
        if name is None:
            raise route.refusal(version)
        return route.versions[self.targets[name].version]

    def description(self, deployment: str, version: str) -> VersionRoute:
        """Returns what `version` does; while calls are held until something answers, what they are held for.

        Raises what `version` raises.
        """
        route = self.routes.get(deployment)
        awaited = route.awaited(version) if route is not None else None
        return awaited or self.version(deployment, version)

    def lacks(self, name: str) -> bool:
        """Tells whether a target's version is not deployed any more, rather than on no worker for now."""
        deployment, version = parse_target(name)
        route = self.routes.get(deployment)
        return route is None or version not in route.versions

    def _no_deployment(self, name: str) -> MeshError:
        if self.snapshot is None:
            text = "the gateway has just started and does not know the routes yet: try again"
            return NotReady(text, metadata={"model": name}, retry_after=_RETRY_AFTER)
        return NotFound.of("model", name, "no deployment has this name")
