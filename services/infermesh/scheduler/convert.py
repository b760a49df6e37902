"""Between messages and the scheduler's own values; the only place that knows both. Pure."""

import math
from collections.abc import Iterable
from typing import Final

from infermesh import names
from infermesh.scheduler import memory
from infermesh.scheduler.model import Assigned, Deployment, Desired, Held, State, TrafficTarget, Version, Worker
from infermesh.v1.model_pb2 import ModelVersion
from infermesh.v1.state_service_pb2 import DesiredDeployment, DesiredState
from infermesh.v1.worker_pb2 import Assignment, HeldVersion
from infermesh.v1.worker_pb2 import Worker as WorkerMessage

_POOL: Final = "pool"  # the label that says which pool a worker is of
_STATES: Final = frozenset(int(state) for state in State)


def desired_of(message: DesiredState) -> Desired:
    """Returns what is wanted."""
    return Desired(tuple(_deployment(item) for item in message.deployments), message.revision)


def _deployment(message: DesiredDeployment) -> Deployment:
    spec = message.deployment
    versions = (_version(item) for item in message.versions)
    return Deployment(
        id=spec.name.removeprefix("deployments/"),
        model=spec.model.removeprefix("models/"),
        targets=_targets(message),
        versions={version.number: version for version in versions if names.is_version(version.number)},
        aliases=dict(message.aliases),
        replicas=max(1, spec.replicas),
        all_workers=spec.all_workers,
        pool=spec.pool,
        device=spec.device,
        generation=spec.generation,
        spec=spec,
    )


def _targets(message: DesiredDeployment) -> tuple[TrafficTarget, ...]:
    """An alias and a number may mean the same version: it is held once and gets both shares."""
    weights: dict[str, int] = {}
    for target in message.targets:
        weights[target.version] = weights.get(target.version, 0) + target.weight
    return tuple(TrafficTarget(version, weight) for version, weight in weights.items())


def _version(message: ModelVersion) -> Version:
    return Version(
        number=message.name.rpartition("/")[2],
        digest=message.digest,
        backend=message.backend,
        device=message.device,
        memory=message.memory_bytes or memory.estimate(file.size_bytes for file in message.files),
        facts=message,
    )


def worker_of(message: WorkerMessage) -> Worker:
    """Returns a worker. Raises InvalidInput if its name is malformed."""
    (worker,) = names.parse("workers/*", message.name)
    return Worker(
        id=worker,
        device=message.device.kind,
        pool=message.labels.get(_POOL, ""),
        memory=message.device.memory_total_bytes,
        held=tuple(_held(item) for item in message.held),
        backends=frozenset(message.backends),
        draining=message.draining,
        weight=message.weight if 0 < message.weight < math.inf else 1.0,
        address=message.address,
        bundle_address=message.bundle_address,
        incarnation=message.incarnation,
        message=message,
    )


def _held(message: HeldVersion) -> Held:
    # a state of a newer worker that we don't know: it takes memory and serves nothing, as when loading
    number = int(message.state)
    state = State(number) if number in _STATES else State.LOADING
    return Held(
        deployment=message.deployment,
        version=message.version,
        digest=message.digest,
        state=state,
        reason=message.reason,
        memory=message.memory_bytes,
        load_seconds=message.load_seconds,
    )


def assignment_of(assigned: Assigned, deployment: Deployment) -> Assignment:
    """Returns the message for an assignment; `deployment` is the one that it is of."""
    return Assignment(
        deployment=assigned.deployment,
        version=names.version_name(deployment.model, assigned.version),
        digest=assigned.digest,
        batching=deployment.spec.batching,
    )


def remember(known: Desired, new: Desired, limit: int = 8) -> Desired:
    """Returns `new` with the versions that were targets in `known` added where the registry no longer lists them.

    The registry lists the newest versions of a model only, while an older one may still stand in for a target. At most
    `limit` versions of a deployment are remembered, the newest.
    """
    before = {(deployment.id, deployment.model): deployment for deployment in known.deployments}
    return Desired(tuple(_remember(before.get((d.id, d.model)), d, limit) for d in new.deployments), new.revision)


def _remember(before: Deployment | None, now: Deployment, limit: int) -> Deployment:
    if before is None:
        return now
    numbers = {*(target.version for target in before.targets), *before.remembered} - set(now.versions)
    kept = _newest(numbers & set(before.versions), limit)
    if not kept:
        return now
    return now.with_remembered({number: before.versions[number] for number in kept})


def _newest(numbers: Iterable[str], limit: int) -> list[str]:
    return sorted(numbers, key=int, reverse=True)[:limit]
