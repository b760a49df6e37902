"""What holds for every plan, whatever is wanted and whatever is there."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from infermesh.names import Target
from infermesh.scheduler.ledger import charge
from infermesh.scheduler.model import Assigned, Deployment, Desired, Held, Plan, State, TrafficTarget, Version, Worker
from infermesh.scheduler.placement.base import PlacementPolicy
from infermesh.scheduler.placement.binpack import Binpack
from infermesh.scheduler.placement.spread import Spread
from infermesh.scheduler.planner import plan
from infermesh.scheduler.wants import Want
from tests.unit.scheduler.build import carry_out

IDS = ("a", "b", "c")
NUMBERS = ("1", "2", "3")
DEVICES = st.sampled_from(["", "any", "cpu", "cuda"])
BACKENDS = st.sampled_from(["torch", "onnx"])
MEMORY = st.integers(0, 6)

versions = st.builds(
    lambda numbers, devices, backends, sizes: {
        number: Version(number, f"sha256:{number}", backend, device, size)
        for number, device, backend, size in zip(numbers, devices, backends, sizes, strict=True)
    },
    st.just(NUMBERS),
    st.tuples(DEVICES, DEVICES, DEVICES),
    st.tuples(BACKENDS, BACKENDS, BACKENDS),
    st.tuples(MEMORY, MEMORY, MEMORY),
)
targets = st.lists(st.sampled_from(NUMBERS), min_size=1, max_size=2, unique=True)


@st.composite
def desireds(draw: st.DrawFn) -> Desired:
    ids = draw(st.lists(st.sampled_from(IDS), unique=True, max_size=3))
    return Desired(
        tuple(
            Deployment(
                id=id,
                model=id,
                targets=tuple(TrafficTarget(number) for number in draw(targets)),
                versions=draw(versions),
                replicas=draw(st.integers(1, 4)),
                all_workers=draw(st.booleans()),
                pool=draw(st.sampled_from(["", "", "x"])),
                device=draw(DEVICES),
            )
            for id in ids
        )
    )


helds = st.builds(
    Held,
    deployment=st.sampled_from(IDS),
    version=st.sampled_from(NUMBERS),
    # now and then a left-over of another model
    digest=st.sampled_from(["", "", "", "sha256:other"]),
    state=st.sampled_from(State),
    memory=MEMORY,
).map(
    lambda held: (
        held
        if held.digest
        else Held(held.deployment, held.version, f"sha256:{held.version}", held.state, "", held.memory)
    )
)


@st.composite
def fleets(draw: st.DrawFn, *, empty: bool = False) -> list[Worker]:
    return [
        Worker(
            id=f"w{number}",
            device=draw(st.sampled_from(["cpu", "cuda"])),
            pool=draw(st.sampled_from(["x", "y"])),
            memory=draw(st.integers(0, 14)),
            held=() if empty else tuple(draw(st.lists(helds, max_size=4, unique_by=lambda held: held.target))),
            backends=frozenset(draw(st.sets(BACKENDS, min_size=1))),
            draining=draw(st.integers(0, 4)) == 0,
        )
        for number in range(draw(st.integers(0, 4)))
    ]


policies = st.sampled_from([Spread(), Binpack()])


def fresh(worker: Worker, result: Plan) -> Iterator[Assigned]:
    """Yields what the plan gives to a worker that has no copy of it."""
    have = {(held.target, held.digest) for held in worker.held if held.state is not State.UNLOADING}
    return (item for item in result.assignments[worker.id] if (item.target, item.digest) not in have)


def want_of(desired: Desired, item: Assigned) -> Want:
    deployment = next(each for each in desired.deployments if each.id == item.deployment)
    return Want(deployment, deployment.versions[item.version])


def wanted_copies(desired: Desired, deployment: Deployment, version: str, workers: list[Worker]) -> int:
    """Returns how many workers shall hold a target."""
    if not deployment.all_workers:
        return deployment.replicas
    want = want_of(desired, Assigned(deployment.id, version, ""))
    return max(1, sum(want.fits(worker) and not worker.draining for worker in workers))


@settings(max_examples=40)
@given(desireds(), fleets(), policies)
def test_memory_is_never_overdrawn_by_what_is_given_anew(
    desired: Desired, workers: list[Worker], policy: PlacementPolicy
) -> None:
    result = plan(desired, workers, policy)
    known = {(d.id, v.number): v for d in desired.deployments for v in d.versions.values()}
    for worker in workers:
        new = [want_of(desired, item).version.memory for item in fresh(worker, result)]
        there = sum(charge(held, known.get((held.deployment, held.version))) for held in worker.held)
        if worker.memory and new:
            assert there + sum(new) <= worker.memory


@settings(max_examples=40)
@given(desireds(), fleets(), policies)
def test_nothing_goes_on_loading_where_memory_is_overdrawn(
    desired: Desired, workers: list[Worker], policy: PlacementPolicy
) -> None:
    result = plan(desired, workers, policy)
    known = {(d.id, v.number): v for d in desired.deployments for v in d.versions.values()}
    for worker in workers:
        assigned = {item.target for item in result.assignments[worker.id]}
        loading = [held for held in worker.held if held.state is State.LOADING and held.target in assigned]
        others = [held for held in worker.held if held not in loading and held.state is not State.LOADING]
        total = sum(charge(held, known.get((held.deployment, held.version))) for held in [*loading, *others])
        if worker.memory and loading:
            assert total <= worker.memory


@settings(max_examples=40)
@given(desireds(), fleets(), policies)
def test_what_is_given_anew_suits_device_and_backend_and_no_draining_worker(
    desired: Desired, workers: list[Worker], policy: PlacementPolicy
) -> None:
    result = plan(desired, workers, policy)
    for worker in workers:
        for item in fresh(worker, result):
            assert not worker.draining
            assert want_of(desired, item).fits(worker)


@settings(max_examples=40)
@given(desireds(), fleets(), policies)
def test_replicas_are_on_different_workers_and_never_too_many(
    desired: Desired, workers: list[Worker], policy: PlacementPolicy
) -> None:
    result = plan(desired, workers, policy)
    for items in result.assignments.values():
        assert len({item.target for item in items}) == len(items)
    suited = {worker.id: worker for worker in workers if not worker.draining}
    copies = Counter(
        (item.deployment, item.version)
        for id, items in result.assignments.items()
        if id in suited
        for item in items
        if want_of(desired, item).fits(suited[id])
    )
    missing = {(item.deployment, item.version): item.replicas for item in result.unplaced}
    for deployment in desired.deployments:
        for target in deployment.targets:
            key = (deployment.id, target.version)
            wanted = wanted_copies(desired, deployment, target.version, workers)
            assert copies[key] + missing.get(key, 0) == wanted


@settings(max_examples=40)
@given(desireds(), fleets(), policies)
def test_what_serves_a_target_is_only_taken_away_for_surplus_or_once_replaced(
    desired: Desired, workers: list[Worker], policy: PlacementPolicy
) -> None:
    result = plan(desired, workers, policy)
    for deployment in desired.deployments:
        for target in deployment.targets:
            digest = deployment.versions[target.version].digest
            ready = {
                worker.id
                for worker in workers
                for held in worker.held
                if (held.deployment, held.version, held.digest) == (deployment.id, target.version, digest)
                and held.state is State.READY
            }
            kept = {
                id
                for id in ready
                if any(
                    item.version == target.version and item.deployment == deployment.id
                    for item in result.assignments[id]
                )
            }
            assert len(kept) >= min(1, len(ready))
            if ready - kept and not any(worker.draining for worker in workers) and deployment.device in ("", "any"):
                assert len(kept) >= wanted_copies(desired, deployment, target.version, workers) or not all(
                    want_of(desired, Assigned(deployment.id, target.version, digest)).fits(worker)
                    for worker in workers
                    if worker.id in ready
                )


@settings(max_examples=40)
@given(desireds(), fleets(), policies)
def test_planning_again_while_it_is_being_carried_out_changes_nothing(
    desired: Desired, workers: list[Worker], policy: PlacementPolicy
) -> None:
    first = plan(desired, workers, policy)
    begun = [
        Worker(
            id=worker.id,
            device=worker.device,
            memory=worker.memory,
            held=(
                *worker.held,
                *(Held(i.deployment, i.version, i.digest, State.LOADING) for i in fresh(worker, first)),
            ),
            backends=worker.backends,
            draining=worker.draining,
            pool=worker.pool,
        )
        for worker in workers
    ]
    assert plan(desired, begun, policy).assignments == first.assignments


@settings(max_examples=40)
@given(desireds(), fleets(), policies, st.sampled_from([State.READY, State.FAILED]))
def test_carrying_out_plans_comes_to_rest(
    desired: Desired, workers: list[Worker], policy: PlacementPolicy, outcome: State
) -> None:
    """Each round may free room or let a stand-in go, and so allow one more step; but it ends, and then stays."""
    seen = []
    for _ in range(12):
        result = plan(desired, workers, policy)
        seen.append(result.assignments)
        workers = carry_out(workers, result, outcome)
    assert seen[-1] == seen[-2] == seen[-3]


@settings(max_examples=40)
@given(desireds(), fleets(), policies, st.randoms())
def test_the_order_in_which_things_are_told_does_not_matter(
    desired: Desired, workers: list[Worker], policy: PlacementPolicy, random: Random
) -> None:
    shuffled = Desired(tuple(random.sample(desired.deployments, len(desired.deployments))))
    assert plan(shuffled, random.sample(workers, len(workers)), policy) == plan(desired, workers, policy)


@settings(max_examples=40)
@given(desireds(), fleets(empty=True), policies)
def test_a_lost_worker_moves_nothing_on_the_others(
    desired: Desired, workers: list[Worker], policy: PlacementPolicy
) -> None:
    for _ in range(6):
        workers = carry_out(workers, plan(desired, workers, policy))
    before = plan(desired, workers, policy)
    left = workers[1:]
    after = plan(desired, left, policy)
    for worker in left:
        assert set(before.assignments[worker.id]) <= set(after.assignments[worker.id])


@settings(max_examples=40)
@given(desireds(), fleets(empty=True), policies)
def test_what_is_to_be_everywhere_comes_to_be_wherever_it_suits_and_has_room(
    desired: Desired, workers: list[Worker], policy: PlacementPolicy
) -> None:
    roomy = [replace(worker, memory=0) for worker in workers]
    for _ in range(6):
        roomy = carry_out(roomy, plan(desired, roomy, policy))
    for deployment in desired.deployments:
        for target in deployment.targets:
            want = want_of(desired, Assigned(deployment.id, target.version, ""))
            suited = {worker.id for worker in roomy if want.stays_on(worker)}
            holders = {worker.id for worker in roomy for held in worker.held if held.target == want.target}
            if deployment.all_workers:
                assert holders == suited


@settings(max_examples=40)
@given(desireds(), fleets(empty=True), policies, st.sets(st.integers(0, 3)))
def test_what_leaves_serves_until_something_else_does(
    desired: Desired, workers: list[Worker], policy: PlacementPolicy, leaving: set[int]
) -> None:
    """As many workers as one likes may leave, and new ones come, at any time: from the first copy on there is one."""
    served: set[Target] = set()
    for round in range(8):
        if round == 4:
            new = [replace(worker, id=f"n{worker.id}", held=(), draining=False) for worker in workers]
            old = [replace(worker, draining=worker.draining or n in leaving) for n, worker in enumerate(workers)]
            workers = [*old, *new]
        workers = carry_out(workers, plan(desired, workers, policy))
        now = {held.target for worker in workers for held in worker.held if held.state is State.READY}
        assert served <= now
        served = now
