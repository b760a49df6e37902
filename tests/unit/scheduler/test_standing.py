"""What workers say, against what was planned."""

from infermesh.scheduler.model import Assigned, Plan, State
from infermesh.scheduler.standing import Standing, standings, survey
from tests.unit.scheduler.build import deployment, digest_of, held, ready, worker

D = deployment(versions=())


def assigned(*targets: str) -> tuple[Assigned, ...]:
    return tuple(Assigned(*target.split("/"), digest_of("m", target.split("/")[1])) for target in targets)


def stand(plan: dict[str, tuple[Assigned, ...]], *workers: object) -> dict[str, Standing]:
    seen = survey(workers, Plan(plan))  # type: ignore[arg-type]
    return standings(D, seen.get("d", {}))


def test_ready_and_assigned_serves() -> None:
    (standing,) = stand({"w1": assigned("d/1")}, worker("w1", *ready("d/1"))).values()
    assert standing == Standing("1", serving=("w1",), ready=1, staying=1, state=State.READY)


def test_ready_but_no_longer_assigned_counts_as_going() -> None:
    """So that calls stop coming before the worker is told to unload it."""
    (standing,) = stand({"w1": ()}, worker("w1", *ready("d/1"))).values()
    assert standing == Standing("1", state=State.UNLOADING)


def test_ready_under_another_digest_counts_as_going() -> None:
    (standing,) = stand({"w1": assigned("d/1")}, worker("w1", held("d/1", model="other"))).values()
    assert (standing.serving, standing.loading, standing.state) == ((), 1, State.UNLOADING)


def test_assigned_but_not_yet_heard_of_counts_as_loading() -> None:
    (standing,) = stand({"w1": assigned("d/1")}, worker("w1")).values()
    assert standing == Standing("1", loading=1, state=None)


def test_loading() -> None:
    (standing,) = stand({"w1": assigned("d/1")}, worker("w1", held("d/1", State.LOADING))).values()
    assert standing == Standing("1", loading=1, state=State.LOADING)


def test_failures_are_told_with_worker_and_reason() -> None:
    failed = held("d/1", State.FAILED, reason="tensor 'y'")
    (standing,) = stand({"w1": assigned("d/1")}, worker("w1", failed)).values()
    assert standing == Standing("1", failures=(("w1", "tensor 'y'"),), state=State.FAILED)


def test_the_most_hopeful_state_counts() -> None:
    plan = {id: assigned("d/1") for id in ("w1", "w2", "w3")}
    failed, loading = worker("w1", held("d/1", State.FAILED)), worker("w2", held("d/1", State.LOADING))
    assert stand(plan, failed, loading)["1"].state is State.LOADING
    assert stand(plan, failed, loading, worker("w3", *ready("d/1")))["1"].state is State.READY


def test_a_draining_worker_serves_only_where_no_other_does() -> None:
    plan = {"w1": assigned("d/1"), "w2": assigned("d/1")}
    leaving = worker("w1", *ready("d/1"), draining=True)
    alone = stand(plan, leaving)["1"]
    assert (alone.serving, alone.ready, alone.staying) == (("w1",), 1, 0)
    both = stand(plan, leaving, worker("w2", *ready("d/1")))["1"]
    assert (both.serving, both.ready, both.staying) == (("w2",), 2, 1)


def test_newest_first_by_number_not_by_text() -> None:
    plan = {"w1": assigned("d/2", "d/10", "d/9")}
    assert list(stand(plan, worker("w1", *ready("d/2", "d/10", "d/9")))) == ["10", "9", "2"]


def test_versions_that_nobody_has_are_there_too() -> None:
    assert standings(deployment(), {})["5"] == Standing("5")


def test_what_no_longer_suits_serves_but_does_not_count() -> None:
    wanted = deployment(pool="x")
    workers = [worker("w1", *ready("d/1"), pool="y"), worker("w2", *ready("d/1"), pool="x")]
    seen = survey(workers, Plan({"w1": assigned("d/1"), "w2": assigned("d/1")}))
    standing = standings(wanted, seen["d"])["1"]
    assert (standing.serving, standing.ready, standing.staying) == (("w1", "w2"), 2, 1)
