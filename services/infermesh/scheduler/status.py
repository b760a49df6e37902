"""What became of a deployment, in the words of the registry. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from infermesh.names import deployment_name
from infermesh.scheduler.model import Deployment, Unplaced
from infermesh.scheduler.standing import Standing
from infermesh.v1.deployment_pb2 import Deployment as DeploymentMessage
from infermesh.v1.deployment_pb2 import VersionStatus
from infermesh.v1.state_service_pb2 import DeploymentReport

DeploymentState = DeploymentMessage.State
_ASLEEP: Final = "no worker now: its pool has shrunk to nothing, and grows with the next call"


@dataclass(frozen=True, slots=True)
class Status:
    """State of a deployment as `Deployment.State` defines it, and why."""

    state: DeploymentState
    reason: str = ""


def status_of(
    deployment: Deployment,
    standings: Mapping[str, Standing],
    unplaced: Iterable[Unplaced],
    *,
    unmanned: bool = False,
    awaited: bool = False,
) -> Status:
    """Returns the state of a deployment; only its present targets count.

    `unmanned` says that it is on all workers and there is none: then it is not degraded, and where it is `awaited`, it
    is as it shall be, since its pool has shrunk to nothing and grows with the next call.
    """
    targets = [standings.get(target.version, Standing(target.version)) for target in deployment.targets]
    failures = [_failure(target) for target in targets if target.failures]
    if failures:
        return Status(DeploymentMessage.FAILED, "; ".join(failures))
    missing = {item.version: item for item in unplaced if item.deployment == deployment.id}
    wanted = {target.version: _wanted(deployment, target, missing) for target in targets}
    lacking = [target for target in targets if target.staying < wanted[target.version]]
    if not lacking:
        return Status(DeploymentMessage.ACTIVE)
    if unmanned:
        reason = "; ".join(sorted({missing[target.version].reason for target in lacking if target.version in missing}))
        return Status(DeploymentMessage.ACTIVE, _ASLEEP) if awaited else Status(DeploymentMessage.DEPLOYING, reason)
    reason = "; ".join(_lack(target, wanted[target.version], missing) for target in lacking)
    under_way = any(target.loading for target in lacking)
    return Status(DeploymentMessage.DEPLOYING if under_way else DeploymentMessage.DEGRADED, reason)


def _wanted(deployment: Deployment, target: Standing, missing: Mapping[str, Unplaced]) -> int:
    """Returns how many workers shall have a target ready: every one that does, is about to, or lacks it."""
    if not deployment.all_workers:
        return deployment.replicas
    lacking = missing[target.version].replicas if target.version in missing else 0
    return max(1, target.staying + target.loading + lacking)


def _failure(target: Standing) -> str:
    worker, reason = target.failures[0]
    others = f" (and {len(target.failures) - 1} more)" if len(target.failures) > 1 else ""
    return f"version {target.version} failed to load on worker {worker}{others}: {reason or 'no reason given'}"


def _lack(target: Standing, replicas: int, missing: Mapping[str, Unplaced]) -> str:
    loading = f", {target.loading} loading" if target.loading else ""
    why = f": {missing[target.version].reason}" if target.version in missing else ""
    return f"version {target.version} is ready on {target.staying} of {replicas} workers{loading}{why}"


def report_of(deployment: Deployment, status: Status, standings: Mapping[str, Standing]) -> DeploymentReport:
    """Returns the message that tells the registry."""
    return DeploymentReport(
        name=deployment_name(deployment.id),
        generation=deployment.generation,
        state=status.state,
        reason=status.reason,
        versions=_versions(deployment, standings),
    )


def _versions(deployment: Deployment, standings: Mapping[str, Standing]) -> Sequence[VersionStatus]:
    """Says what the targets do, and every other version that some worker has."""
    targets = {target.version for target in deployment.targets}
    return [
        VersionStatus(
            version=standing.version,
            ready_replicas=standing.ready,
            loading_replicas=standing.loading,
            failure=standing.failures[0][1] if standing.failures else "",
            routed=bool(standing.serving),
        )
        for standing in standings.values()
        if standing.version in targets or standing.state is not None
    ]
