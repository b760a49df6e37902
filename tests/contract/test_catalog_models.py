"""The catalog's contract: models, versions and aliases."""

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from infermesh.errors import AlreadyExists, Conflict, FailedPrecondition, NotFound
from infermesh.registry.catalog.base import Catalog, Key
from infermesh.v1.model_pb2 import Model, ModelVersion
from tests.unit.registry.messages import deployment, version


@pytest.fixture
def digits(catalog: Catalog) -> Catalog:
    """A catalog with the model `digits` and its versions 1 and 2."""
    catalog.models.create("digits", Model(description="numbers"), None)
    for _ in range(2):
        catalog.versions.create("digits", version(), None, False)
    return catalog


def test_a_model_comes_back_as_it_was_made(catalog: Catalog) -> None:
    made = catalog.models.create("digits", Model(description="ä" * 10, labels={"team": "vision"}, name="ignored"), None)
    assert made.name == "models/digits"
    assert (made.description, dict(made.labels), made.latest_version) == ("ä" * 10, {"team": "vision"}, 0)
    assert made.etag
    assert made.create_time.seconds >= 1_700_000_000
    assert catalog.models.get("digits") == made


def test_a_taken_id_is_refused(digits: Catalog) -> None:
    with pytest.raises(AlreadyExists):
        digits.models.create("digits", Model(), None)


def test_an_unknown_model_is_not_found_whatever_is_asked(catalog: Catalog) -> None:
    calls = [
        lambda: catalog.models.get("no"),
        lambda: catalog.models.update("no", lambda m: m, ""),
        lambda: catalog.models.delete("no", ""),
        lambda: catalog.versions.create("no", version(), None, False),
        lambda: catalog.versions.get("no", "1"),
        lambda: catalog.versions.get("no", "latest"),
        lambda: catalog.versions.page("no", 9, 9),
        lambda: catalog.versions.delete("no", 1),
        lambda: catalog.aliases.set("no", "prod", 1, "", ""),
        lambda: catalog.aliases.get("no", "prod"),
        lambda: catalog.aliases.page("no", "", 9),
        lambda: catalog.aliases.delete("no", "prod", ""),
    ]
    for call in calls:
        with pytest.raises(NotFound):
            call()


def test_models_come_in_pages_in_the_order_of_ids(catalog: Catalog) -> None:
    for name in ("b", "a-1", "a_1", "a.1", "c%", "aa"):
        catalog.models.create(name, Model(), None)
    assert [m.name for m in catalog.models.page("a", "", 10)] == sorted(
        f"models/{n}" for n in ("a-1", "a_1", "a.1", "aa")
    )
    everything = [m.name for m in catalog.models.page("", "", 10)]
    first = [m.name for m in catalog.models.page("", "", 2)]
    rest = [m.name for m in catalog.models.page("", first[-1].removeprefix("models/"), 10)]
    assert first + rest == everything
    assert [m.name for m in catalog.models.page("a_", "", 10)] == ["models/a_1"]  # `_` is no wildcard


def test_an_update_changes_the_etag_and_a_stale_one_is_refused(digits: Catalog) -> None:
    before = digits.models.get("digits")

    def change(model: Model) -> Model:
        changed = Model()
        changed.CopyFrom(model)
        changed.description = "new"
        return changed

    after = digits.models.update("digits", change, before.etag)
    assert (after.description, after.create_time) == ("new", before.create_time)
    assert after.etag != before.etag
    assert after.update_time.ToNanoseconds() > before.update_time.ToNanoseconds()
    with pytest.raises(Conflict):
        digits.models.update("digits", change, before.etag)
    assert digits.models.update("digits", change, "") == after  # nothing to change: nothing changes


def test_a_model_is_deleted_with_all_it_has_and_its_successor_begins_anew(digits: Catalog) -> None:
    digits.aliases.set("digits", "prod", 1, "", "")
    etag = digits.models.get("digits").etag
    with pytest.raises(Conflict):
        digits.models.delete("digits", "0123456789abcdef")
    digits.models.delete("digits", etag)
    again = digits.versions.create("digits", version(), None, True)
    assert again.name == "models/digits/versions/1"
    assert digits.aliases.page("digits", "", 9) == []
    with pytest.raises(Conflict):  # an etag of the old one does not fit the new one
        digits.models.delete("digits", etag)


def test_versions_are_numbered_and_kept_whole(digits: Catalog) -> None:
    third = digits.versions.create("digits", version(name="ignored", digest="ignored", labels={"a": "b"}), None, False)
    assert third.name == "models/digits/versions/3"
    assert third.digest.startswith("sha256:")
    got = digits.versions.get("digits", "3")
    assert got == third
    assert got.samples == version().samples
    assert digits.models.get("digits").latest_version == 3


def test_the_digest_tells_what_a_version_does_not_what_it_is_called(digits: Catalog) -> None:
    first, second = (digits.versions.get("digits", number) for number in "12")
    other = digits.versions.create("digits", version(device="cuda"), None, False)
    assert first.digest == second.digest != other.digest


def test_a_version_is_found_by_number_alias_and_latest(digits: Catalog) -> None:
    digits.aliases.set("digits", "prod", 1, "", "")
    found = [digits.versions.get("digits", ref).name.rpartition("/")[2] for ref in ("2", "prod", "latest")]
    assert found == ["2", "1", "2"]
    for ref in ("9", "canary"):
        with pytest.raises(NotFound):
            digits.versions.get("digits", ref)


def test_versions_come_newest_first_without_samples(digits: Catalog) -> None:
    page = digits.versions.page("digits", 3, 9)
    assert [v.name.rpartition("/")[2] for v in page] == ["2", "1"]
    assert not any(v.samples for v in page)
    assert [v.name.rpartition("/")[2] for v in digits.versions.page("digits", 2, 9)] == ["1"]


def test_a_number_is_never_given_twice(digits: Catalog) -> None:
    digits.versions.delete("digits", 2)
    assert digits.versions.get("digits", "latest").name.endswith("/1")
    assert digits.versions.create("digits", version(), None, False).name.endswith("/3")


def test_latest_of_no_version_is_not_found(catalog: Catalog) -> None:
    catalog.models.create("empty", Model(), None)
    with pytest.raises(NotFound):
        catalog.versions.get("empty", "latest")


@pytest.mark.parametrize("target", ["v2", "prod", "latest"])
def test_what_a_deployment_uses_cannot_be_deleted(digits: Catalog, target: str) -> None:
    digits.aliases.set("digits", "prod", 2, "", "")
    digits.deployments.create("d", deployment(**{target: 1}), None)
    with pytest.raises(FailedPrecondition, match="deployments/d"):
        digits.versions.delete("digits", 2)
    with pytest.raises(FailedPrecondition, match="deployments/d"):
        digits.models.delete("digits", "")
    digits.versions.delete("digits", 1)  # nobody uses that one
    if target == "prod":
        with pytest.raises(FailedPrecondition, match="deployments/d"):
            digits.aliases.delete("digits", "prod", "")
    else:
        digits.aliases.delete("digits", "prod", "")
    digits.deployments.delete("d", "")
    digits.models.delete("digits", "")


def test_a_version_with_an_alias_cannot_be_deleted(digits: Catalog) -> None:
    digits.aliases.set("digits", "prod", 1, "", "")
    with pytest.raises(FailedPrecondition, match="aliases/prod"):
        digits.versions.delete("digits", 1)
    digits.aliases.delete("digits", "prod", "")
    digits.versions.delete("digits", 1)
    with pytest.raises(NotFound):
        digits.versions.get("digits", "1")


def test_an_alias_moves_only_from_where_it_is_expected(digits: Catalog) -> None:
    with pytest.raises(Conflict):
        digits.aliases.set("digits", "prod", 1, "1", "")
    first = digits.aliases.set("digits", "prod", 1, "none", "")
    assert (first.name, first.version) == ("models/digits/aliases/prod", "models/digits/versions/1")
    with pytest.raises(Conflict):
        digits.aliases.set("digits", "prod", 2, "none", "")
    with pytest.raises(Conflict):
        digits.aliases.set("digits", "prod", 2, "2", "")
    second = digits.aliases.set("digits", "prod", 2, "1", "")
    assert digits.aliases.get("digits", "prod") == second
    with pytest.raises(Conflict):
        digits.aliases.set("digits", "prod", 1, "", first.etag)
    assert digits.aliases.set("digits", "prod", 2, "", "") == second  # already there: the same state, the same etag
    with pytest.raises(NotFound):
        digits.aliases.set("digits", "prod", 9, "", "")


def test_an_etag_that_came_back_to_the_same_version_is_still_stale(digits: Catalog) -> None:
    first = digits.aliases.set("digits", "prod", 1, "", "")
    digits.aliases.set("digits", "prod", 2, "", "")
    digits.aliases.set("digits", "prod", 1, "", "")
    with pytest.raises(Conflict):
        digits.aliases.set("digits", "prod", 2, "", first.etag)
    with pytest.raises(Conflict):
        digits.aliases.delete("digits", "prod", first.etag)


def test_racing_moves_have_one_winner_each(digits: Catalog) -> None:
    for _ in range(6):
        digits.versions.create("digits", version(), None, False)
    digits.aliases.set("digits", "prod", 1, "", "")
    barrier = threading.Barrier(4)

    def race(number: int) -> int | None:
        barrier.wait()
        try:
            digits.aliases.set("digits", "prod", number, "1", "")
        except Conflict:
            return None
        return number

    with ThreadPoolExecutor(4) as pool:
        won = [number for number in pool.map(race, range(2, 6)) if number is not None]
    assert len(won) == 1
    assert digits.aliases.get("digits", "prod").version.endswith(f"/{won[0]}")


def test_a_chain_of_moves_is_taken_step_by_step(catalog: Catalog) -> None:
    for _ in range(8):
        catalog.versions.create("digits", version(), None, True)
    catalog.aliases.set("digits", "prod", 1, "none", "")

    def climb(_: int) -> list[int]:
        taken = []
        while (at := int(catalog.aliases.get("digits", "prod").version.rpartition("/")[2])) < 8:
            with contextlib.suppress(Conflict):
                catalog.aliases.set("digits", "prod", at + 1, str(at), "")
                taken.append(at + 1)
        return taken

    with ThreadPoolExecutor(4) as pool:
        steps = [step for taken in pool.map(climb, range(4)) for step in taken]
    assert sorted(steps) == list(range(2, 9))  # no step lost, none taken twice


def test_racing_versions_get_different_numbers(catalog: Catalog) -> None:
    def push(_: int) -> str:
        return catalog.versions.create("digits", version(), None, True).name

    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(push, range(8)))
    assert sorted(made) == [f"models/digits/versions/{n}" for n in range(1, 9)]


def test_aliases_come_in_the_order_of_ids(digits: Catalog) -> None:
    for alias in ("prod", "canary", "stable"):
        digits.aliases.set("digits", alias, 1, "", "")
    assert [a.name.rpartition("/")[2] for a in digits.aliases.page("digits", "", 2)] == ["canary", "prod"]
    assert [a.name.rpartition("/")[2] for a in digits.aliases.page("digits", "prod", 2)] == ["stable"]


def test_a_repeated_request_is_answered_again_and_done_once(catalog: Catalog) -> None:
    key, other = Key("id-1", "same"), Key("id-1", "other")
    model = catalog.models.create("digits", Model(), key)
    assert catalog.models.create("digits", Model(), key) == model
    with pytest.raises(AlreadyExists, match="request_id"):
        catalog.models.create("letters", Model(), other)
    push = Key("id-2", "push")
    first = catalog.versions.create("digits", version(), push, False)
    assert catalog.versions.create("digits", version(), push, False) == first
    assert len(catalog.versions.page("digits", 99, 99)) == 1
    start = Key("id-3", "deploy")
    operation = catalog.deployments.create("d", deployment(), start)
    assert catalog.deployments.create("d", deployment(), start).name == operation.name


def test_a_racing_repeated_request_is_done_once(catalog: Catalog) -> None:
    key = Key("id-1", "same")

    def push(_: int) -> ModelVersion:
        return catalog.versions.create("digits", version(), key, True)

    with ThreadPoolExecutor(4) as pool:
        made = {v.name for v in pool.map(push, range(8))}
    assert made == {"models/digits/versions/1"}
    assert len(catalog.versions.page("digits", 99, 99)) == 1


def test_a_refused_call_leaves_nothing_behind(catalog: Catalog) -> None:
    key = Key("id-1", "deploy")
    revision = catalog.state.revision()
    with pytest.raises(NotFound):
        catalog.deployments.create("d", deployment(), key)
    assert catalog.state.revision() == revision
    assert catalog.operations.page(None, "", "", 9) == []
    catalog.versions.create("digits", version(), None, True)
    assert catalog.deployments.create("d", deployment(), key).name  # the id is not used up
