"""Short ways to say what is wanted and what is there, for the scheduler's tests."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from infermesh.scheduler.model import (
    Assigned,
    Deployment,
    Desired,
    Held,
    Plan,
    State,
    TrafficTarget,
    Version,
    Worker,
)

GIB = 1 << 30


def digest_of(model: str, number: str) -> str:
    """Returns the digest that version `number` of `model` has in these tests."""
    return f"sha256:{model}-{number}"


def version(number: str, *, model: str = "m", memory: int = GIB, backend: str = "torch", device: str = "") -> Version:
    return Version(number, digest_of(model, number), backend, device, memory)


def deployment(
    id: str = "d",
    targets: Mapping[str, int] | Sequence[str] = ("1",),
    *,
    versions: Iterable[Version] | None = None,
    model: str = "m",
    replicas: int = 1,
    all_workers: bool = False,
    pool: str = "",
    device: str = "",
    aliases: Mapping[str, str] | None = None,
    generation: int = 1,
) -> Deployment:
    """Returns a deployment of version numbers or shares by number; without `versions`, of 1 to 5 with 1 GiB each."""
    weights = targets if isinstance(targets, Mapping) else dict.fromkeys(targets, 1)
    facts = list(versions) if versions is not None else [version(str(n), model=model) for n in range(1, 6)]
    return Deployment(
        id=id,
        model=model,
        targets=tuple(TrafficTarget(number, weight) for number, weight in weights.items()),
        versions={item.number: item for item in facts},
        aliases=aliases or {},
        replicas=replicas,
        all_workers=all_workers,
        pool=pool,
        device=device,
        generation=generation,
    )


def desired(*deployments: Deployment) -> Desired:
    return Desired(deployments)


def held(target: str, state: State = State.READY, *, model: str = "m", memory: int = 0, reason: str = "") -> Held:
    """Returns what a worker says of `d/1`."""
    id, _, number = target.partition("/")
    return Held(id, number, digest_of(model, number), state, reason, memory)


def ready(*targets: str) -> tuple[Held, ...]:
    return tuple(held(target) for target in targets)


def worker(
    id: str,
    *held: Held,
    memory: int = 16 * GIB,
    device: str = "cpu",
    pool: str = "",
    draining: bool = False,
    backends: Iterable[str] = ("torch", "onnx"),
) -> Worker:
    return Worker(
        id=id,
        device=device,
        pool=pool,
        memory=memory,
        held=held,
        backends=frozenset(backends),
        draining=draining,
        address=f"{id}:1",
        incarnation=f"{id}-a",
    )


def given(plan: Plan) -> dict[str, list[str]]:
    """Returns the targets that a plan gives to each worker."""
    return {id: [item.target for item in items] for id, items in plan.assignments.items()}


def carry_out(workers: Iterable[Worker], plan: Plan, state: State = State.READY) -> list[Worker]:
    """Returns the workers once each has done what the plan says: the new is in `state`, the unwanted is gone."""
    return [_obey(worker, plan.assignments[worker.id], state) for worker in workers]


def _obey(worker: Worker, assignments: Iterable[Assigned], state: State) -> Worker:
    have = {item.target: item for item in worker.held if item.state is not State.UNLOADING}
    return replace(worker, held=tuple(_reach(have.get(item.target), item, state) for item in assignments))


def _reach(held: Held | None, wanted: Assigned, state: State) -> Held:
    if held is None or held.digest != wanted.digest:
        return Held(wanted.deployment, wanted.version, wanted.digest, state)
    return replace(held, state=state) if held.state is State.LOADING else held
