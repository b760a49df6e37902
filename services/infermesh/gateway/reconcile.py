"""What to make of the first snapshots of a scheduler that has just started. Used by the watch."""

from collections.abc import Collection, Iterable

from infermesh.v1.scheduler_service_pb2 import DeploymentRoute, ResolvedRoute, RouteSnapshot, VersionRoute
from infermesh.v1.worker_pb2 import HeldVersion


def reconcile(base: RouteSnapshot, fresh: RouteSnapshot, keep: Collection[str]) -> RouteSnapshot:
    """Returns `fresh`, completed from `base` for the workers in `keep`, which `fresh` does not name.

    A pure function. Deployments that `fresh` does not name stay. One that some worker in `keep` serves stays as it
    was in `base`, shares and aliases included, with the workers of `fresh` added: what `fresh` says of it was made
    without that worker, so its shares may lead all calls to the one version that has been heard of yet.
    """
    merged = RouteSnapshot(revision=fresh.revision, epoch=fresh.epoch, workers=fresh.workers)
    merged.workers.extend(worker for worker in base.workers if worker.id in keep)
    known = {route.deployment: route for route in fresh.deployments}
    for old in base.deployments:
        new = known.pop(old.deployment, None)
        if new is not None and not _served_by(old, keep):
            merged.deployments.append(new)
        else:
            merged.deployments.append(_complete(old, new, keep))
    merged.deployments.extend(known.values())
    return merged


def _served_by(route: DeploymentRoute, workers: Collection[str]) -> bool:
    return any(worker in workers for version in route.versions for worker in version.workers)


def _complete(old: DeploymentRoute, new: DeploymentRoute | None, keep: Collection[str]) -> DeploymentRoute:
    route = DeploymentRoute()
    route.CopyFrom(old)
    heard = {version.version: version for version in new.versions} if new is not None else {}
    for version in route.versions:
        _set_workers(version, keep, heard.pop(version.version, None))
    route.versions.extend(heard.values())
    there = {version.version for version in route.versions if version.workers}
    traffic = _among(old.traffic, there) or _among(new.traffic if new is not None else (), there)
    del route.traffic[:]
    route.traffic.extend(traffic)
    return route


def _among(traffic: Iterable[ResolvedRoute], versions: Collection[str]) -> list[ResolvedRoute]:
    return [share for share in traffic if share.version in versions]


def _set_workers(version: VersionRoute, keep: Collection[str], heard: VersionRoute | None) -> None:
    workers = [worker for worker in version.workers if worker in keep]
    if heard is not None:
        workers += heard.workers
    del version.workers[:]
    version.workers.extend(workers)
    if workers:
        version.state = HeldVersion.READY
    elif heard is not None:
        version.state, version.reason = heard.state, heard.reason
    else:
        version.state = HeldVersion.STATE_UNSPECIFIED
