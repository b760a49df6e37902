"""Where each version of a deployment stands, over all workers: what workers say, against what was planned. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from infermesh.scheduler.model import Deployment, Held, Plan, State, Worker
from infermesh.scheduler.wants import Want

_HOPE: Final = (State.READY, State.LOADING, State.FAILED, State.UNLOADING)
Seen = tuple[Worker, Held | None]
"""A worker and what it says of a version that it holds or shall hold; None while it has not said anything."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where one version stands.

    `serving` are the ids of the workers that calls may be sent to; `ready` counts those that have it ready, `staying`
    those of them that suit and aren't draining; `loading` those that load it or have just been told to; `failures` are
    pairs of worker id and reason; `state` is the most hopeful over all workers.
    """

    version: str
    serving: tuple[str, ...] = ()
    ready: int = 0
    staying: int = 0
    loading: int = 0
    failures: tuple[tuple[str, str], ...] = ()
    state: State | None = None
    load_seconds: float = 0.0


def survey(workers: Sequence[Worker], plan: Plan) -> Mapping[str, Mapping[str, Sequence[Seen]]]:
    """Returns, by deployment and version, the workers that hold it under the planned digest, or shall.

    What a worker has ready but shall no longer hold is shown as unloading: it is about to be.
    """
    found: dict[str, dict[str, list[Seen]]] = {}
    for worker in workers:
        assigned = {item.target: item for item in plan.assignments.get(worker.id, ())}
        for held in worker.held:
            item = assigned.get(held.target)
            wanted = item is not None and item.digest == held.digest
            if wanted and held.state is not State.UNLOADING:
                del assigned[held.target]
            seen = held if wanted else _going(held)
            found.setdefault(held.deployment, {}).setdefault(held.version, []).append((worker, seen))
        for rest in assigned.values():
            found.setdefault(rest.deployment, {}).setdefault(rest.version, []).append((worker, None))
    return found


def _going(held: Held) -> Held:
    return Held(held.deployment, held.version, held.digest, State.UNLOADING, load_seconds=held.load_seconds)


def standings(deployment: Deployment, seen: Mapping[str, Sequence[Seen]]) -> dict[str, Standing]:
    """Returns where every version that is known or seen stands, by number, the newest first."""
    numbers = sorted({*deployment.versions, *seen}, key=_order, reverse=True)
    return {number: _standing(deployment, number, seen.get(number, ())) for number in numbers}


def _order(number: str) -> tuple[int, str]:
    return (int(number) if number.isdecimal() else 0, number)


def _standing(deployment: Deployment, number: str, seen: Sequence[Seen]) -> Standing:
    version = deployment.versions.get(number)
    want = Want(deployment, version) if version is not None else None
    ready = [worker for worker, held in seen if held and held.state is State.READY]
    up = [worker for worker in ready if not worker.draining]
    states = {held.state for _, held in seen if held}
    return Standing(
        version=number,
        serving=tuple(worker.id for worker in up or ready),
        ready=len(ready),
        # one that no longer suits (the pool has changed) serves until it is replaced, but counts for nothing
        staying=sum(want is None or want.fits(worker) for worker in up),
        loading=sum(held is None or held.state is State.LOADING for _, held in seen),
        failures=_failures(seen),
        state=next((state for state in _HOPE if state in states), None),
        load_seconds=max((held.load_seconds for _, held in seen if held), default=0.0),
    )


def _failures(seen: Iterable[Seen]) -> tuple[tuple[str, str], ...]:
    return tuple((worker.id, held.reason) for worker, held in seen if held and held.state is State.FAILED)
