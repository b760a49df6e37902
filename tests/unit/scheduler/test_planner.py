"""The planner's decisions, one by one."""

from dataclasses import replace

import pytest

from infermesh.scheduler.model import Held, Plan, State, Unplaced, Worker
from infermesh.scheduler.placement.binpack import Binpack
from infermesh.scheduler.placement.spread import Spread
from infermesh.scheduler.planner import plan
from tests.unit.scheduler.build import GIB, carry_out, deployment, desired, given, held, ready, version, worker


def planned(*deployments_and_workers: object) -> Plan:
    workers = [item for item in deployments_and_workers if isinstance(item, Worker)]
    deployments = [item for item in deployments_and_workers if not isinstance(item, Worker)]
    return plan(desired(*deployments), workers, Spread())  # type: ignore[arg-type]


def test_nothing_wanted_means_that_workers_shall_hold_nothing() -> None:
    assert given(planned(worker("w1", *ready("d/1")))) == {"w1": []}


def test_replicas_go_to_different_workers() -> None:
    result = planned(deployment(replicas=2), worker("w1"), worker("w2"), worker("w3"))
    assert sorted(map(len, given(result).values())) == [0, 1, 1]


def test_what_is_held_stays_where_it_is_though_another_worker_is_emptier() -> None:
    full = worker("w1", *ready("d/1", "e/1"))
    result = planned(deployment("d"), deployment("e"), full, worker("w0"))
    assert given(result) == {"w0": [], "w1": ["d/1", "e/1"]}


def test_what_is_loading_stays_too() -> None:
    result = planned(deployment(), worker("w1"), worker("w2", held("d/1", State.LOADING)))
    assert given(result) == {"w1": [], "w2": ["d/1"]}


def test_a_lost_workers_version_goes_to_one_that_is_left() -> None:
    before = [worker("w1", *ready("d/1")), worker("w2")]
    assert given(planned(deployment(), *before)) == {"w1": ["d/1"], "w2": []}
    assert given(planned(deployment(), before[1])) == {"w2": ["d/1"]}


def test_fewer_replicas_keep_the_ready_ones() -> None:
    workers = [
        worker("w1", held("d/1", State.LOADING)),
        worker("w2", held("d/1", State.FAILED)),
        worker("w3", *ready("d/1")),
    ]
    assert given(planned(deployment(), *workers)) == {"w1": [], "w2": [], "w3": ["d/1"]}


def test_first_replicas_of_everything_come_before_second_ones() -> None:
    room_for_two = [worker("w1", memory=GIB), worker("w2", memory=GIB)]
    result = planned(deployment("a", replicas=2), deployment("b", replicas=2), *room_for_two)
    assert sorted(target for targets in given(result).values() for target in targets) == ["a/1", "b/1"]
    assert {item.deployment: item.replicas for item in result.unplaced} == {"a": 1, "b": 1}


def test_the_largest_is_placed_first_since_it_is_the_hardest_to_place() -> None:
    large = deployment("z", versions=[version("1", memory=3 * GIB)])
    result = planned(deployment("a"), large, worker("w1", memory=3 * GIB), worker("w2", memory=GIB))
    assert given(result) == {"w1": ["z/1"], "w2": ["a/1"]}


@pytest.mark.parametrize(
    ("of_version", "of_deployment", "expected"),
    [
        ("", "", "a"),
        ("any", "any", "a"),
        ("cuda", "", "b"),
        ("", "cuda", "b"),
        ("cuda", "cpu", "b"),
        ("any", "cuda", "b"),
    ],
)
def test_a_versions_device_comes_before_its_deployments(of_version: str, of_deployment: str, expected: str) -> None:
    wanted = deployment(versions=[version("1", device=of_version)], device=of_deployment)
    # the worker without a GPU sorts first and is as empty
    result = planned(wanted, worker("a", device="cpu"), worker("b", device="cuda"))
    assert given(result)[expected] == ["d/1"]


def test_only_workers_with_the_backend_are_given_a_version() -> None:
    wanted = deployment(versions=[version("1", backend="onnx")])
    result = planned(wanted, worker("w1", backends=["torch"]), worker("w2", backends=["onnx"]))
    assert given(result) == {"w1": [], "w2": ["d/1"]}


def test_a_version_measured_larger_than_expected_counts_as_measured() -> None:
    grown = worker("w1", held("e/1", memory=15 * GIB + 1))
    result = planned(deployment("d"), deployment("e"), grown)
    assert given(result) == {"w1": ["e/1"]}
    assert result.unplaced == (Unplaced("d", "1", 1, "needs 1.0 GiB, largest free is 1024.0 MiB on worker w1"),)


def test_what_is_being_unloaded_still_takes_its_memory() -> None:
    going = worker("w1", held("old/1", State.UNLOADING, memory=16 * GIB))
    assert given(planned(deployment(), going)) == {"w1": []}


def test_what_is_no_longer_wanted_takes_its_memory_until_it_is_gone() -> None:
    crowded = worker("w1", held("old/1", memory=16 * GIB))
    assert given(planned(deployment(), crowded)) == {"w1": []}
    assert given(planned(deployment(), worker("w1"))) == {"w1": ["d/1"]}


def test_a_worker_of_unknown_memory_takes_anything() -> None:
    huge = deployment(versions=[version("1", memory=1 << 50)])
    assert given(planned(huge, worker("w1", memory=0))) == {"w1": ["d/1"]}


def test_loading_stops_where_something_ready_turned_out_larger() -> None:
    crowded = worker("w1", held("a/1", memory=16 * GIB), held("b/1", State.LOADING))
    result = planned(deployment("a"), deployment("b"), crowded, worker("w2"))
    assert given(result) == {"w1": ["a/1"], "w2": ["b/1"]}


def test_what_is_ready_stays_even_where_memory_is_overdrawn() -> None:
    overdrawn = worker("w1", held("a/1", memory=20 * GIB), held("b/1", memory=GIB))
    assert given(planned(deployment("a"), deployment("b"), overdrawn, worker("w2"))) == {"w1": ["a/1", "b/1"], "w2": []}


def test_one_that_is_being_unloaded_is_not_placed_there_again_before_it_is_gone() -> None:
    result = planned(deployment(), worker("w1", held("d/1", State.UNLOADING)))
    assert given(result) == {"w1": []}
    assert result.unplaced[0].reason == "still being unloaded on worker w1"


def test_a_version_of_another_model_under_the_same_name_must_go_first() -> None:
    left_over = worker("w1", held("d/1", model="other"))
    assert given(planned(deployment(), left_over)) == {"w1": []}
    assert given(planned(deployment(), left_over, worker("w2"))) == {"w1": [], "w2": ["d/1"]}


def test_the_old_copy_going_beside_the_new_one_does_not_hide_it() -> None:
    both = worker("w1", held("d/1", State.READY), held("d/1", State.UNLOADING, model="other"))
    assert given(planned(deployment(), both)) == {"w1": ["d/1"]}


def test_replicas_beyond_all_bounds_are_counted_not_listed() -> None:
    result = planned(deployment(replicas=2**31 - 1), worker("w1"), worker("w2"))
    assert given(result) == {"w1": ["d/1"], "w2": ["d/1"]}
    assert result.unplaced == (Unplaced("d", "1", 2**31 - 3, "needs 2147483647 workers, only 2 can hold it"),)


def test_a_target_that_the_registry_tells_nothing_about_is_unplaced() -> None:
    result = planned(deployment(targets=["9"]), worker("w1"))
    assert result.unplaced == (Unplaced("d", "9", 1, "the registry tells nothing about version 9"),)


class TestDraining:
    def test_nothing_new_is_placed_there(self) -> None:
        result = planned(deployment(), worker("w1", draining=True), worker("w2"))
        assert given(result) == {"w1": [], "w2": ["d/1"]}

    def test_its_work_stays_until_it_is_ready_elsewhere(self) -> None:
        leaving = worker("w1", *ready("d/1"), draining=True)
        first = planned(deployment(), leaving, worker("w2"))
        assert given(first) == {"w1": ["d/1"], "w2": ["d/1"]}
        loading = carry_out([leaving, worker("w2")], first, State.LOADING)
        assert planned(deployment(), *loading) == first
        assert given(planned(deployment(), *carry_out(loading, first))) == {"w1": [], "w2": ["d/1"]}

    def test_its_work_stays_where_there_is_no_room_elsewhere(self) -> None:
        result = planned(deployment(), worker("w1", *ready("d/1"), draining=True), worker("w2", memory=1))
        assert given(result) == {"w1": ["d/1"], "w2": []}

    def test_its_work_stays_while_too_few_others_have_it(self) -> None:
        workers = [worker("w1", *ready("d/1"), draining=True), worker("w2", *ready("d/1"))]
        assert given(planned(deployment(replicas=2), *workers)) == {"w1": ["d/1"], "w2": ["d/1"]}

    def test_what_was_still_loading_begins_elsewhere_at_once(self) -> None:
        result = planned(deployment(), worker("w1", held("d/1", State.LOADING), draining=True), worker("w2"))
        assert given(result) == {"w1": [], "w2": ["d/1"]}

    def test_what_failed_there_is_tried_elsewhere(self) -> None:
        result = planned(deployment(), worker("w1", held("d/1", State.FAILED), draining=True), worker("w2"))
        assert given(result) == {"w1": [], "w2": ["d/1"]}

    def test_all_draining_is_said(self) -> None:
        result = planned(deployment(), worker("w1", draining=True))
        assert result.unplaced[0].reason == "every worker is draining"


class TestUnsuited:
    """The deployment's device was changed under what it holds."""

    WANTED = deployment(device="cuda")

    def test_the_old_copy_serves_until_one_is_ready_on_the_new_device(self) -> None:
        workers = [worker("c", *ready("d/1")), worker("g", device="cuda")]
        first = planned(self.WANTED, *workers)
        assert given(first) == {"c": ["d/1"], "g": ["d/1"]}
        assert given(planned(self.WANTED, *carry_out(workers, first))) == {"c": [], "g": ["d/1"]}

    def test_it_goes_once_the_new_device_serves_though_on_fewer_workers(self) -> None:
        workers = [worker("c", *ready("d/1")), worker("g", *ready("d/1"), device="cuda")]
        assert given(planned(deployment(device="cuda", replicas=2), *workers)) == {"c": [], "g": ["d/1"]}

    def test_it_goes_on_serving_where_no_worker_has_the_device(self) -> None:
        result = planned(self.WANTED, worker("c", *ready("d/1")))
        assert given(result) == {"c": ["d/1"]}
        assert result.unplaced == (Unplaced("d", "1", 1, "needs cuda, no worker has it"),)

    def test_a_failure_on_the_old_device_does_not_bar_the_new_one(self) -> None:
        result = planned(self.WANTED, worker("c", held("d/1", State.FAILED)), worker("g", device="cuda"))
        assert given(result) == {"c": [], "g": ["d/1"]}


class TestFailed:
    def test_it_is_neither_tried_again_nor_carried_to_another_worker(self) -> None:
        result = planned(deployment(), worker("w1", held("d/1", State.FAILED)), worker("w2"))
        assert given(result) == {"w1": ["d/1"], "w2": []}

    def test_further_replicas_are_not_tried_while_none_is_ready(self) -> None:
        workers = [worker("w1", held("d/1", State.FAILED)), worker("w2"), worker("w3")]
        result = planned(deployment(replicas=3), *workers)
        assert given(result) == {"w1": ["d/1"], "w2": [], "w3": []}
        assert result.unplaced == (Unplaced("d", "1", 2, "it failed to load and is not tried on other workers"),)

    def test_further_replicas_are_placed_where_it_works_somewhere(self) -> None:
        workers = [worker("w1", held("d/1", State.FAILED)), worker("w2", *ready("d/1")), worker("w3")]
        assert given(planned(deployment(replicas=3), *workers)) == {"w1": ["d/1"], "w2": ["d/1"], "w3": ["d/1"]}

    def test_it_takes_no_memory(self) -> None:
        wanted = [deployment("a", versions=[version("1", memory=16 * GIB)]), deployment("b")]
        assert given(planned(*wanted, worker("w1", held("a/1", State.FAILED)))) == {"w1": ["a/1", "b/1"]}

    def test_another_version_under_the_name_is_tried(self) -> None:
        left_over = worker("w1", held("d/1", State.FAILED, model="other"))
        assert given(planned(deployment(), left_over, worker("w2"))) == {"w1": [], "w2": ["d/1"]}

    def test_the_version_before_is_kept_at_full_strength(self) -> None:
        """One of the two workers that served it has died while people look into the failure."""
        workers = [worker("w1", held("d/1"), held("d/2", State.FAILED)), worker("w2")]
        result = planned(deployment(targets=["2"], replicas=2), *workers)
        assert given(result) == {"w1": ["d/1", "d/2"], "w2": ["d/1"]}


class TestHold:
    """A version that is no longer a target stands in until all targets are ready."""

    WANTED = deployment(targets=["2"], replicas=2)

    def test_it_stays_while_the_target_loads_and_goes_when_all_replicas_are_ready(self) -> None:
        workers = [worker("w1", *ready("d/1")), worker("w2", *ready("d/1"))]
        first = planned(self.WANTED, *workers)
        assert given(first) == {"w1": ["d/1", "d/2"], "w2": ["d/1", "d/2"]}
        half = carry_out(workers, first)[:1] + carry_out(workers, first, State.LOADING)[1:]
        assert planned(self.WANTED, *half) == first
        assert given(planned(self.WANTED, *carry_out(workers, first))) == {"w1": ["d/2"], "w2": ["d/2"]}

    def test_it_stays_while_the_target_has_failed(self) -> None:
        workers = [
            worker("w1", held("d/1"), held("d/2", State.FAILED)),
            worker("w2", held("d/1"), held("d/2", State.FAILED)),
        ]
        assert given(planned(self.WANTED, *workers)) == {"w1": ["d/1", "d/2"], "w2": ["d/1", "d/2"]}

    def test_it_stays_where_there_is_no_room_for_the_target(self) -> None:
        result = planned(deployment(targets=["2"]), worker("w1", *ready("d/1"), memory=GIB))
        assert given(result) == {"w1": ["d/1"]}
        assert result.unplaced == (Unplaced("d", "2", 1, "needs 1.0 GiB, largest free is 0 B on worker w1"),)

    def test_it_goes_once_the_target_serves_where_it_could_be_placed(self) -> None:
        """Else the stand-in would take the room of the second replica for ever."""
        workers = [worker("w1", *ready("d/2")), worker("w2", *ready("d/1"), memory=GIB)]
        first = planned(self.WANTED, *workers)
        assert given(first) == {"w1": ["d/2"], "w2": []}
        assert given(planned(self.WANTED, *carry_out(workers, first))) == {"w1": ["d/2"], "w2": ["d/2"]}

    def test_what_was_still_loading_goes_at_once(self) -> None:
        result = planned(deployment(targets=["2"]), worker("w1", held("d/1", State.LOADING)))
        assert given(result) == {"w1": ["d/2"]}

    def test_a_removed_target_goes_at_once_where_the_rest_is_ready(self) -> None:
        assert given(planned(deployment(targets=["1"]), worker("w1", *ready("d/1", "d/2")))) == {"w1": ["d/1"]}

    def test_all_targets_must_be_ready(self) -> None:
        result = planned(deployment(targets=["2", "3"]), worker("w1", *ready("d/1", "d/2")))
        assert given(result) == {"w1": ["d/1", "d/2", "d/3"]}

    def test_what_is_left_of_another_model_never_stands_in(self) -> None:
        strange = Held("d", "3", "sha256:other-3", State.READY)
        assert given(planned(deployment(targets=["2"]), worker("w1", strange))) == {"w1": ["d/2"]}

    def test_what_the_registry_does_not_list_never_stands_in(self) -> None:
        assert given(planned(deployment(targets=["2"]), worker("w1", *ready("d/77")))) == {"w1": ["d/2"]}

    def test_a_deleted_deployment_goes_at_once(self) -> None:
        assert given(planned(deployment("e"), worker("w1", *ready("d/1", "e/1")))) == {"w1": ["e/1"]}


class TestUnplaced:
    def reason(self, *items: object) -> str:
        (unplaced,) = planned(*items).unplaced
        return unplaced.reason

    def test_without_workers(self) -> None:
        assert self.reason(deployment()) == "no worker is alive"

    def test_without_the_device(self) -> None:
        assert self.reason(deployment(device="cuda"), worker("w1")) == "needs cuda, no worker has it"

    def test_without_the_backend(self) -> None:
        wanted = deployment(versions=[version("1", backend="python")])
        assert self.reason(wanted, worker("w1")) == "needs backend 'python', no worker has it"

    def test_without_the_backend_on_the_device(self) -> None:
        wanted = deployment(versions=[version("1", backend="onnx", device="cuda")])
        workers = [worker("c"), worker("g", device="cuda", backends=["torch"])]
        assert self.reason(wanted, *workers) == "needs backend 'onnx', no worker with cuda has it"

    def test_without_memory_names_the_worker_with_most(self) -> None:
        wanted = deployment(versions=[version("1", memory=3 * GIB + GIB // 10)])
        workers = [worker("w1", memory=GIB), worker("w2", memory=2 * GIB)]
        assert self.reason(wanted, *workers) == "needs 3.1 GiB, largest free is 2.0 GiB on worker w2"

    def test_without_enough_workers(self) -> None:
        assert self.reason(deployment(replicas=2), worker("w1")) == "needs 2 workers, only 1 can hold it"


def test_the_policy_decides() -> None:
    workers = [worker("w1"), worker("w2", *ready("a/1"))]
    wanted = desired(deployment("a"), deployment("b"))
    assert given(plan(wanted, workers, Spread())) == {"w1": ["b/1"], "w2": ["a/1"]}
    assert given(plan(wanted, workers, Binpack())) == {"w1": [], "w2": ["a/1", "b/1"]}


def test_a_plan_does_not_depend_on_the_order_in_which_things_are_told() -> None:
    wanted = [deployment(id, replicas=2) for id in "abc"]
    workers = [worker(id, memory=3 * GIB) for id in ("w1", "w2", "w3")]
    forward = plan(desired(*wanted), workers, Spread())
    backward = plan(desired(*reversed(wanted)), [replace(w) for w in reversed(workers)], Spread())
    assert forward == backward


def test_what_is_to_be_everywhere_is_on_every_worker_that_suits_and_on_each_that_comes() -> None:
    wanted = deployment(all_workers=True, pool="x", device="cuda")
    fleet = [
        worker("a", pool="x", device="cuda"),
        worker("b", pool="x"),
        worker("c", device="cuda"),
        worker("d", pool="x", device="cuda", draining=True),
    ]
    assert given(planned(wanted, *fleet)) == {"a": ["d/1"], "b": [], "c": [], "d": []}
    fleet = [*carry_out(fleet, planned(wanted, *fleet)), worker("e", pool="x", device="cuda")]
    assert given(planned(wanted, *fleet))["e"] == ["d/1"]


def test_where_there_is_no_room_it_is_told_and_the_others_serve() -> None:
    wanted = deployment(all_workers=True)
    result = planned(wanted, worker("a"), worker("b", memory=GIB // 2), worker("c"))
    assert given(result) == {"a": ["d/1"], "b": [], "c": ["d/1"]}
    assert result.unplaced == (Unplaced("d", "1", 1, "needs 1.0 GiB, largest free is 512.0 MiB on worker b"),)


def test_a_failure_keeps_it_from_workers_that_come_only_while_it_works_nowhere() -> None:
    wanted, broken = deployment(all_workers=True), worker("a", held("d/1", State.FAILED))
    assert given(planned(wanted, broken, worker("b"))) == {"a": ["d/1"], "b": []}
    assert given(planned(wanted, broken, worker("b"), worker("c", *ready("d/1")))) == {
        "a": ["d/1"],
        "b": ["d/1"],
        "c": ["d/1"],
    }
    assert given(planned(wanted, worker("b"))) == {"b": ["d/1"]}


@pytest.mark.parametrize(
    ("workers", "reason"),
    [
        ([worker("a", pool="y")], "no worker in pool 'x'"),
        ([worker("a", pool="x", draining=True)], "every worker in pool 'x' is draining"),
        ([worker("a", pool="x"), worker("b", device="cuda")], "needs cuda, no worker in pool 'x' has it"),
        (
            [worker("a", pool="x", device="cuda", backends=["onnx"])],
            "needs backend 'torch', no worker in pool 'x' with cuda has it",
        ),
    ],
)
@pytest.mark.parametrize("all_workers", [False, True])
def test_what_a_pool_lacks_is_told(workers: list[Worker], reason: str, all_workers: bool) -> None:
    wanted = deployment(all_workers=all_workers, pool="x", device="cuda")
    assert planned(wanted, *workers).unplaced == (Unplaced("d", "1", 1, reason),)


def test_a_deployment_that_changes_its_pool_serves_in_the_old_one_until_the_new_one_does() -> None:
    wanted = deployment(pool="x")
    old, new = worker("a", *ready("d/1"), pool="y"), worker("b", pool="x")
    assert given(planned(wanted, old, new)) == {"a": ["d/1"], "b": ["d/1"]}
    assert given(planned(wanted, old, worker("b", *ready("d/1"), pool="x"))) == {"a": [], "b": ["d/1"]}
