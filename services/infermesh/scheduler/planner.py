"""Decides what every worker shall hold: `plan(desired, workers, policy)`, a pure function without memory.

The rules, in the order in which they are applied:

1. What a worker has and is still wanted stays where it is; so a plan that was carried out plans to itself again.
   A version that failed counts as placed: neither tried again there nor carried to the next worker.
2. What is missing is placed where pool, device, backend and memory allow and no copy of the same target is, the first
   replica of everything before the second of anything; the policy chooses among the workers that can take it. A
   deployment on all workers wants as many replicas as there are workers that suit, so one more with each that comes.
3. A worker that is draining, or no longer suits, gives up what is ready there only once it is ready elsewhere.
4. While some target of a deployment is not ready, or failed, its versions that are ready but no longer targets stay and
   stand in. They go once every target serves wherever it was placed. Room for a target is never made by taking away
   what serves: it is reported as unplaced.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from infermesh.names import Target, target_of
from infermesh.scheduler.ledger import Ledger
from infermesh.scheduler.model import Assigned, Deployment, Desired, Held, Plan, State, Unplaced, Worker
from infermesh.scheduler.placement.base import Need, PlacementPolicy
from infermesh.scheduler.shortage import explain
from infermesh.scheduler.wants import Want, known, wants_of

_PREFERENCE: Final = {State.READY: 0, State.LOADING: 1, State.FAILED: 2}
Holders = dict[Target, list[tuple[Ledger, Held]]]


def plan(desired: Desired, workers: Sequence[Worker], policy: PlacementPolicy) -> Plan:
    """Returns what each of `workers` shall hold, and what can't be placed. Raises only what `policy` raises."""
    deployments = sorted(desired.deployments, key=lambda deployment: deployment.id)
    versions = {target_of(d.id, v.number): v for d in deployments for v in d.versions.values()}
    ledgers = [Ledger(worker, versions) for worker in sorted(workers, key=lambda worker: worker.id)]
    held = _by_deployment(ledgers)
    wants = {
        d.id: list(wants_of(d, [(ledger.worker, item) for ledger, item in held.get(d.id, ())])) for d in deployments
    }
    every = [want for group in wants.values() for want in group]
    for want in every:
        want.count(workers)
    holders = _holders(every, held)
    for want in every:
        _keep_staying(want, holders[want.target])
    unplaced = [*_unknown(deployments), *_place(every, ledgers, policy)]
    for want in every:
        _keep_leaving(want, holders[want.target])
    for deployment in deployments:
        _hold(deployment, wants[deployment.id], held.get(deployment.id, ()))
    return Plan({ledger.worker.id: _sorted(ledger) for ledger in ledgers}, tuple(unplaced))


def _sorted(ledger: Ledger) -> tuple[Assigned, ...]:
    return tuple(ledger.assigned[target] for target in sorted(ledger.assigned))


def _by_deployment(ledgers: Iterable[Ledger]) -> dict[str, list[tuple[Ledger, Held]]]:
    found: dict[str, list[tuple[Ledger, Held]]] = {}
    for ledger in ledgers:
        for held in ledger.held.values():
            found.setdefault(held.deployment, []).append((ledger, held))
    return found


def _holders(wants: Iterable[Want], held: dict[str, list[tuple[Ledger, Held]]]) -> Holders:
    """Returns for every wanted target the workers that have it under its digest and aren't giving it up."""
    found: Holders = {}
    for want in wants:
        found[want.target] = [
            (ledger, item)
            for ledger, item in held.get(want.deployment.id, ())
            if want.is_held(item) and item.state is not State.UNLOADING
        ]
    return found


def _stays(want: Want, ledger: Ledger) -> bool:
    return want.stays_on(ledger.worker) and want.target not in ledger.crowded


def _keep_staying(want: Want, holders: list[tuple[Ledger, Held]]) -> None:
    staying = [(ledger, held) for ledger, held in holders if _stays(want, ledger)]
    staying.sort(key=lambda pair: (_PREFERENCE[pair[1].state], pair[0].worker.id))
    for ledger, held in staying[: want.replicas]:
        ledger.keep(held)
        want.placed += 1
        want.ready += held.state is State.READY


def _place(wants: Sequence[Want], ledgers: Sequence[Ledger], policy: PlacementPolicy) -> list[Unplaced]:
    """Places what is missing; returns what found no place."""
    missing: dict[Target, Want] = {}
    for want in _queue(wants, len(ledgers)):
        if want.target in missing:
            continue
        ledger = None if want.failed else _best(want, ledgers, policy)
        if ledger is None:
            missing[want.target] = want
        else:
            ledger.place(want)
            want.placed += 1
    return [
        Unplaced(want.deployment.id, want.version.number, want.replicas - want.placed, explain(want, ledgers))
        for want in missing.values()
    ]


def _queue(wants: Sequence[Want], workers: int) -> Iterator[Want]:
    """Yields a want for every replica that it lacks: first replicas first, then the largest, since they are the hardest
    to find room for. No more than there are workers, and one to find that out."""
    queue = [
        ((replica, -want.version.memory, order), want)
        for order, want in enumerate(wants)
        for replica in range(want.placed, min(want.replicas, want.placed + workers + 1))
    ]
    return (want for _, want in sorted(queue, key=lambda entry: entry[0]))


def _best(want: Want, ledgers: Iterable[Ledger], policy: PlacementPolicy) -> Ledger | None:
    deployment = want.deployment.id
    need = Need(deployment, want.version.number, want.version.memory)
    best: tuple[tuple[float, ...], Ledger] | None = None
    for ledger in ledgers:
        if ledger.open_to(want):
            score = policy.score(need, ledger.candidate(deployment))
            if best is None or score > best[0]:
                best = (score, ledger)
    return best[1] if best else None


def _keep_leaving(want: Want, holders: Iterable[tuple[Ledger, Held]]) -> None:
    """Keeps what is ready on workers that it shall leave, until it is ready where it shall be."""
    for ledger, held in holders:
        replaced = want.ready >= want.replicas if ledger.worker.draining else want.settled
        if held.state is State.READY and not _stays(want, ledger) and not replaced:
            ledger.keep(held)


def _hold(deployment: Deployment, wants: Sequence[Want], held: Iterable[tuple[Ledger, Held]]) -> None:
    """Keeps what was a target before and stands in, while some target isn't ready."""
    targets = {target.version for target in deployment.targets}
    settled = {want.version.number for want in wants if want.settled and not want.stand_in}
    if targets <= settled:
        return
    for ledger, item in held:
        if item.state is State.READY and item.version not in targets and known(deployment, item):
            ledger.keep(item)


def _unknown(deployments: Iterable[Deployment]) -> Iterator[Unplaced]:
    for deployment in deployments:
        for target in deployment.targets:
            if target.version not in deployment.versions:
                reason = f"the registry tells nothing about version {target.version}"
                yield Unplaced(deployment.id, target.version, deployment.replicas, reason)
