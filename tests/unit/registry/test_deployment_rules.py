"""What a deployment may look like, how masks work, what targets stand for, and how pages are cut."""

import math
from collections.abc import Callable

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from hypothesis import given
from hypothesis import strategies as st

from infermesh.errors import Conflict, InvalidInput, NotFound
from infermesh.registry.rules import deployments, models, pages
from infermesh.registry.rules.fields import check_etag
from infermesh.v1.deployment_pb2 import Batching, Deployment, Hedging, TrafficTarget
from infermesh.v1.model_pb2 import Model
from tests.unit.registry.messages import deployment


def with_(**fields: object) -> Deployment:
    """Returns a good deployment with these fields replaced."""
    changed = deployment()
    for name in fields:
        changed.ClearField(name)
    changed.MergeFrom(Deployment(**fields))  # type: ignore[arg-type]
    return changed


def targets(*pairs: tuple[str, int]) -> list[TrafficTarget]:
    """Returns traffic targets."""
    return [TrafficTarget(version=version, weight=weight) for version, weight in pairs]


@pytest.mark.parametrize(
    "good",
    [
        deployment(),
        deployment(v1=0, prod=1, latest=1),
        with_(replicas=3, device="cpu", policy="least_load", labels={"a": "b"}),
        with_(batching=Batching(max_batch_size=4, max_delay=Duration(nanos=5_000_000), max_queue=9)),
        with_(policy="somebodys.own-policy"),
        with_(hedging=Hedging(budget=0.02, delay=Duration(nanos=50_000_000)), single_flight=True),
        with_(hedging=Hedging()),
        with_(pool="gpu-a100", all_workers=True),
        with_(all_workers=True, replicas=3),
    ],
)
def test_a_good_deployment_passes(good: Deployment) -> None:
    deployments.check_deployment(good)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (with_(model="digits"), "models/*"),
        (with_(model=""), "models/*"),
        (with_(traffic=[]), "deployment.traffic"),
        (with_(traffic=targets(("1", 0), ("2", 0))), "deployment.traffic"),
        (with_(traffic=targets(("1", 2), ("2", -1))), "deployment.traffic[1].weight"),
        (with_(traffic=targets(("1", 1), ("1", 1))), "deployment.traffic"),
        (with_(traffic=targets(("", 1))), "deployment.traffic[0].version"),
        (with_(traffic=targets(("0", 1))), "deployment.traffic[0].version"),
        (with_(traffic=targets(("none", 1))), "deployment.traffic[0].version"),
        (with_(traffic=targets(("Prod", 1))), "deployment.traffic[0].version"),
        (with_(traffic=targets(*((str(n), 1) for n in range(1, 66)))), "deployment.traffic"),
        (with_(replicas=-1), "deployment.replicas"),
        (with_(device="tpu"), "deployment.device"),
        (with_(pool="GPU pool"), "pool id"),
        (with_(policy="no such/policy"), "policy"),
        (with_(batching=Batching(max_batch_size=-1)), "deployment.batching.max_batch_size"),
        (with_(batching=Batching(max_queue=-1)), "deployment.batching.max_queue"),
        (with_(batching=Batching(max_delay=Duration(seconds=-1))), "deployment.batching.max_delay"),
        (with_(batching=Batching(max_delay=Duration(seconds=61))), "deployment.batching.max_delay"),
        (with_(batching=Batching(max_delay=Duration(seconds=1, nanos=-1))), "deployment.batching.max_delay"),
        (with_(labels={"k": "x" * 1025}), "deployment.labels[k]"),
        (with_(hedging=Hedging(budget=-0.1)), "deployment.hedging.budget"),
        (with_(hedging=Hedging(budget=0.51)), "deployment.hedging.budget"),
        (with_(hedging=Hedging(budget=math.nan)), "deployment.hedging.budget"),
        (with_(hedging=Hedging(budget=0.1, delay=Duration(seconds=61))), "deployment.hedging.delay"),
        (with_(hedging=Hedging(delay=Duration(seconds=1))), "deployment.hedging.budget"),
    ],
)
def test_a_bad_field_is_named(wrong: Deployment, named: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        deployments.check_deployment(wrong)
    assert named in caught.value.message


def test_without_a_mask_the_populated_fields_change() -> None:
    current = with_(replicas=2, policy="random", labels={"a": "1"})
    wanted = Deployment(replicas=3, labels={"b": "2"}, state=Deployment.FAILED, etag="x", generation=9)
    changed = deployments.updated(current, wanted, None)
    assert changed == with_(replicas=3, policy="random", labels={"b": "2"})
    assert deployments.updated(current, wanted, FieldMask()) == changed


def test_pool_and_all_workers_are_wanted_like_any_other_field() -> None:
    current = with_(replicas=2)
    everywhere = deployments.updated(current, Deployment(all_workers=True), FieldMask(paths=["all_workers"]))
    assert everywhere == with_(replicas=2, all_workers=True)
    moved = deployments.updated(everywhere, Deployment(pool="x"), None)
    assert not deployments.wants_the_same(moved, everywhere)
    assert deployments.only_wanted(moved) == moved


def test_a_mask_changes_what_it_names_and_clears_what_is_not_there() -> None:
    current = with_(replicas=2, policy="random", labels={"a": "1"}, batching=Batching(max_queue=5, max_batch_size=4))
    changed = deployments.updated(current, Deployment(replicas=3), FieldMask(paths=["policy", "labels"]))
    assert changed == with_(replicas=2, batching=Batching(max_queue=5, max_batch_size=4))
    wanted = Deployment(batching=Batching(max_queue=7, max_batch_size=9))
    changed = deployments.updated(current, wanted, FieldMask(paths=["batching.max_queue"]))
    assert changed.batching == Batching(max_queue=7, max_batch_size=4)
    everything = deployments.updated(current, deployment(v2=1), FieldMask(paths=["*"]))
    assert everything == deployment(v2=1)


@pytest.mark.parametrize(
    "path", ["name", "model", "state", "generation", "nothing", "batching.nothing", "labels.a", "traffic.weight", ""]
)
def test_an_unknown_path_is_refused(path: str) -> None:
    with pytest.raises(InvalidInput, match="update_mask"):
        deployments.updated(deployment(), Deployment(), FieldMask(paths=[path]))


def test_the_result_of_a_mask_is_checked() -> None:
    with pytest.raises(InvalidInput, match="traffic"):
        deployments.updated(deployment(), Deployment(), FieldMask(paths=["traffic"]))


def test_the_model_of_a_deployment_is_immutable() -> None:
    assert deployments.updated(deployment(), Deployment(model="models/digits", replicas=2), None).replicas == 2
    with pytest.raises(InvalidInput, match="immutable"):
        deployments.updated(deployment(), Deployment(model="models/other"), None)


def test_labels_are_not_wanted_of_anybody() -> None:
    assert deployments.wants_the_same(with_(labels={"a": "1"}), with_(generation=3, etag="x"))
    changes = (
        with_(policy="random"),
        with_(device="cpu"),
        with_(hedging=Hedging(budget=0.1)),
        with_(single_flight=True),
    )
    for other in (with_(replicas=2), deployment(v2=1), *changes):
        assert not deployments.wants_the_same(deployment(), other)


@pytest.mark.parametrize(("target", "number"), [("1", 1), ("3", 3), ("latest", 3), ("prod", 1)])
def test_targets_stand_for_numbers(target: str, number: int) -> None:
    assert deployments.resolve("digits", target, [3, 1], {"prod": 1}) == number


@pytest.mark.parametrize("target", ["2", "canary"])
def test_a_target_that_is_not_there_is_not_found(target: str) -> None:
    with pytest.raises(NotFound, match=target):
        deployments.resolve("digits", target, [3, 1], {"prod": 1})


def test_a_model_changes_by_mask_too() -> None:
    current = Model(name="models/a", description="old", labels={"a": "1"}, latest_version=4)
    changed = models.updated(current, Model(description="new", latest_version=9), None)
    assert (changed.description, changed.latest_version, dict(changed.labels)) == ("new", 4, {"a": "1"})
    with pytest.raises(InvalidInput, match="description"):
        models.updated(current, Model(description="x" * 4097), None)
    with pytest.raises(InvalidInput, match="update_mask"):
        models.updated(current, Model(), FieldMask(paths=["latest_version"]))


def test_an_etag_counts_only_if_one_was_given() -> None:
    check_etag("models/a", "", "1")
    check_etag("models/a", "1", "1")
    with pytest.raises(Conflict) as caught:
        check_etag("models/a", "2", "1")
    assert caught.value.metadata["etag"] == "1"


@pytest.mark.parametrize(("wanted", "size"), [(0, 100), (1, 1), (1000, 1000), (1001, 1000), (2**31 - 1, 1000)])
def test_page_sizes(wanted: int, size: int) -> None:
    assert pages.page_size(wanted) == size


def test_a_negative_page_size_is_refused() -> None:
    with pytest.raises(InvalidInput, match="page_size"):
        pages.page_size(-1)


@given(
    scope=st.lists(st.text(), max_size=3),
    cursor=st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1),
)
def test_a_token_brings_its_cursor_back(scope: list[str], cursor: str) -> None:
    assert pages.decode(scope, pages.encode(scope, cursor)) == cursor


@given(token=st.one_of(st.text(min_size=1), st.binary(min_size=1).map(lambda b: b.hex())))
def test_a_foreign_token_is_refused(token: str) -> None:
    with pytest.raises(InvalidInput, match="page_token"):
        pages.decode(("models", ""), token)


def test_a_token_holds_for_its_filter_only() -> None:
    token = pages.encode(("models", "a"), "abc")
    for scope in (("models", "b"), ("models",), ("versions", "a")):
        with pytest.raises(InvalidInput, match="same filter"):
            pages.decode(scope, token)


@given(count=st.integers(0, 30), size=st.integers(1, 12))
def test_pages_put_together_are_the_list(count: int, size: int) -> None:
    everything = [f"{n:03}" for n in range(count)]
    find: Callable[[str], list[str]] = lambda after: [x for x in everything if x > after][: size + 1]  # noqa: E731
    seen: list[str] = []
    token = ""
    while True:
        shown, token = pages.cut(("x",), find(pages.decode(("x",), token)), size, lambda item: item)
        seen += shown
        assert len(shown) <= size
        if not token:
            break
    assert seen == everything
