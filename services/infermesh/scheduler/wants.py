"""What a deployment wants held: its targets, and what stands in when they are stuck. Pure; a step of planning."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from infermesh.names import Target, target_of
from infermesh.scheduler.model import Deployment, Held, State, Version, Worker


@dataclass(slots=True)
class Want:
    """A version that `replicas` workers shall hold: with `all_workers` as many as suit, which `count` finds out.

    `device` is the kind that it must run on, empty for any: the version's need comes before the deployment's. `failed`
    tells that some worker failed to load it and none has it ready; `stand_in` that it is no target itself. `placed`
    and `ready` count, while a plan is made, the workers that have it and stay.
    """

    deployment: Deployment
    version: Version
    stand_in: bool = False
    target: Target = field(init=False)
    device: str = field(init=False)
    replicas: int = field(init=False)
    failed: bool = field(init=False, default=False)
    placed: int = field(init=False, default=0)
    ready: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.target = target_of(self.deployment.id, self.version.number)
        needs = (self.version.device, self.deployment.device)
        self.device = next((device for device in needs if device not in ("", "any")), "")
        self.replicas = self.deployment.replicas

    def count(self, workers: Iterable[Worker]) -> None:
        """Makes `replicas` the number of workers that suit, at least one, if every one that suits shall hold it."""
        if self.deployment.all_workers:
            self.replicas = max(1, sum(self.stays_on(worker) for worker in workers))

    @property
    def settled(self) -> bool:
        """Tells whether it serves and nothing of it is under way or failed: what stood in for it may go."""
        return self.ready > 0 and self.ready == self.placed

    def fits(self, worker: Worker) -> bool:
        """Tells whether the worker is of its pool, and its device and backends can run it."""
        backend, pool = self.version.backend, self.deployment.pool
        if pool and worker.pool != pool:
            return False
        return (not self.device or worker.device == self.device) and (not backend or backend in worker.backends)

    def stays_on(self, worker: Worker) -> bool:
        """Tells whether a copy on the worker may stay there for good."""
        return not worker.draining and self.fits(worker)

    def is_held(self, held: Held) -> bool:
        """Tells whether `held` is this version: not left over from another model under the same name."""
        return held.version == self.version.number and held.digest == self.version.digest


def wants_of(deployment: Deployment, held: Sequence[tuple[Worker, Held]]) -> Iterator[Want]:
    """Yields what `deployment` wants; `held` is what workers hold of it. Targets that the registry tells nothing about
    are left out.

    Once a target has failed, the deployment stays with what served before: the highest version that is still ready is
    wanted like a target, so that it also outlives its workers while people see to the failure.
    """
    stuck = False
    for target in deployment.targets:
        if version := deployment.versions.get(target.version):
            want = Want(deployment, version)
            # a failure on a worker that stops, or that no longer suits, says nothing about the next one
            failed = any(i.state is State.FAILED and want.is_held(i) and want.stays_on(w) for w, i in held)
            want.failed = failed and not any(i.state is State.READY and want.is_held(i) for _, i in held)
            stuck |= failed
            yield want
    standing_in = stand_ins(deployment, held)
    if stuck and standing_in:
        yield Want(deployment, deployment.versions[standing_in[0]], stand_in=True)


def stand_ins(deployment: Deployment, held: Sequence[tuple[Worker, Held]]) -> list[str]:
    """Returns the versions that some worker has ready and that are no targets, the highest first."""
    targets = {target.version for target in deployment.targets}
    found = {
        item.version
        for _, item in held
        if item.state is State.READY and item.version not in targets and known(deployment, item)
    }
    return sorted(found, key=int, reverse=True)


def known(deployment: Deployment, held: Held) -> bool:
    """Tells whether `held` is what the registry has under its number for the deployment's model."""
    version = deployment.versions.get(held.version)
    return version is not None and version.digest == held.digest
