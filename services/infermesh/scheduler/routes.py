"""What gateways are told: builds the routes, and numbers their changes. Pure."""

from collections.abc import Mapping, Sequence

from infermesh.scheduler import traffic
from infermesh.scheduler.model import Deployment, State, Version, Worker
from infermesh.scheduler.standing import Standing
from infermesh.scheduler.status import Status
from infermesh.v1.scheduler_service_pb2 import DeploymentRoute, ResolvedRoute, RouteSnapshot, RouteWorker, VersionRoute


def route_of(
    deployment: Deployment, status: Status, standings: Mapping[str, Standing], *, awaited: bool = False
) -> DeploymentRoute:
    """Returns the route of a deployment, ready or not."""
    shares = traffic.wanted(deployment) if awaited else traffic.shares(deployment, standings)
    versions = [standing for standing in standings.values() if standing.version in deployment.versions]
    return DeploymentRoute(
        deployment=deployment.id,
        model=deployment.model,
        traffic=[ResolvedRoute(version=version, weight=weight) for version, weight in shares.items()],
        versions=[_version(deployment.versions[standing.version], standing) for standing in versions],
        aliases=traffic.aliases(deployment, standings),
        policy=deployment.spec.policy,
        batching=deployment.spec.batching if deployment.spec.HasField("batching") else None,
        state=status.state,
        reason=status.reason,
        hedging=deployment.spec.hedging if deployment.spec.HasField("hedging") else None,
        single_flight=deployment.spec.single_flight,
        awaited=awaited,
    )


def _version(version: Version, standing: Standing) -> VersionRoute:
    failed = standing.state is State.FAILED
    return VersionRoute(
        version=version.number,
        digest=version.digest,
        state=standing.state.name if standing.state else None,  # the names are those of HeldVersion.State
        reason=standing.failures[0][1] if failed and standing.failures else "",
        workers=standing.serving,
        backend=version.backend,
        signature=version.facts.signature if version.facts.HasField("signature") else None,
        max_batch_size=version.facts.max_batch_size,
        load_seconds=standing.load_seconds,
        decoupled=version.facts.decoupled,
    )


def workers_of(workers: Sequence[Worker]) -> list[RouteWorker]:
    """Returns the workers that hold something ready.

    Draining ones too: nothing new goes there, but calls under way need the way back.
    """
    return [
        RouteWorker(
            id=worker.id,
            address=worker.address,
            incarnation=worker.incarnation,
            weight=worker.weight,
            bundle_address=worker.bundle_address,
        )
        for worker in workers
        if any(held.state is State.READY for held in worker.held)
    ]


class RouteBook:
    """Numbers the routes: the revision grows when the content differs. `epoch` differs after every start."""

    def __init__(self, epoch: str) -> None:
        self._last = RouteSnapshot(epoch=epoch)

    def write(self, workers: Sequence[RouteWorker], deployments: Sequence[DeploymentRoute]) -> RouteSnapshot:
        """Returns the snapshot with this content: the last one itself if nothing has changed."""
        content = RouteSnapshot(workers=workers, deployments=deployments, epoch=self._last.epoch)
        content.revision = self._last.revision
        if content != self._last or not content.revision:
            content.revision += 1
            self._last = content
        return self._last
