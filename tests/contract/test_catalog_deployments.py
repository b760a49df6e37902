"""The catalog's contract: deployments, their operations, and what the scheduler sees and reports."""

from collections.abc import Callable

import pytest
from google.longrunning.operations_pb2 import Operation
from google.rpc.code_pb2 import ABORTED, CANCELLED, FAILED_PRECONDITION

from infermesh.errors import AlreadyExists, Conflict, NotFound
from infermesh.registry.catalog.base import Catalog
from infermesh.v1.deployment_pb2 import Deployment, DeploymentOperationMetadata, TrafficTarget, VersionStatus
from infermesh.v1.state_service_pb2 import DeploymentReport
from tests.unit.registry.messages import deployment, version


@pytest.fixture
def digits(catalog: Catalog) -> Catalog:
    """A catalog with versions 1 and 2 of `digits`, the alias `prod` at 1, and the deployment `d` of version 1."""
    for _ in range(2):
        catalog.versions.create("digits", version(), None, True)
    catalog.aliases.set("digits", "prod", 1, "", "")
    catalog.deployments.create("d", deployment(v1=1), None)
    return catalog


def changing(**fields: object) -> Callable[[Deployment], Deployment]:
    """Returns a change that sets these fields."""

    def change(current: Deployment) -> Deployment:
        changed = Deployment()
        changed.CopyFrom(current)
        for name in fields:
            changed.ClearField(name)
        changed.MergeFrom(Deployment(**fields))  # type: ignore[arg-type]
        return changed

    return change


def report(catalog: Catalog, state: int, generation: int = 1, reason: str = "", name: str = "d") -> None:
    """Reports a state of one deployment."""
    catalog.state.report(
        [
            DeploymentReport(
                name=f"deployments/{name}",
                generation=generation,
                state=state,  # type: ignore[arg-type]
                reason=reason,
                versions=[VersionStatus(version="1", ready_replicas=1, routed=True)],
            )
        ]
    )


def metadata(operation: Operation) -> DeploymentOperationMetadata:
    """Returns the metadata of an operation."""
    unpacked = DeploymentOperationMetadata()
    assert operation.metadata.Unpack(unpacked)
    return unpacked


def only(catalog: Catalog, *, done: bool) -> Operation:
    """Returns the one operation that is (not) done."""
    (operation,) = catalog.operations.page(done, "", "", 9)
    return operation


def test_a_deployment_begins_with_an_operation(digits: Catalog) -> None:
    made = digits.deployments.get("d")
    assert (made.name, made.model, made.generation) == ("deployments/d", "models/digits", 1)
    assert made.state == Deployment.DEPLOYING
    operation = only(digits, done=False)
    told = metadata(operation)
    assert (told.deployment, told.generation, told.state) == ("deployments/d", 1, Deployment.DEPLOYING)
    assert digits.operations.get(operation.name.removeprefix("operations/")) == operation


def test_what_the_caller_may_not_decide_is_ignored(digits: Catalog) -> None:
    wanted = deployment(v1=1)
    wanted.MergeFrom(Deployment(name="deployments/x", state=Deployment.ACTIVE, generation=7, etag="mine"))
    digits.deployments.create("e", wanted, None)
    made = digits.deployments.get("e")
    assert (made.name, made.state, made.generation) == ("deployments/e", Deployment.DEPLOYING, 1)
    assert made.etag != "mine"


@pytest.mark.parametrize("wanted", [deployment("no"), deployment(v9=1), deployment(canary=1)])
def test_a_target_that_is_not_there_is_refused(digits: Catalog, wanted: Deployment) -> None:
    with pytest.raises(NotFound):
        digits.deployments.create("e", wanted, None)
    with pytest.raises(NotFound):
        digits.deployments.get("e")


def test_a_taken_id_is_refused(digits: Catalog) -> None:
    with pytest.raises(AlreadyExists):
        digits.deployments.create("d", deployment(), None)


def test_deployments_come_in_pages_and_by_model(digits: Catalog) -> None:
    digits.versions.create("other", version(), None, True)
    digits.deployments.create("c", deployment("other"), None)
    digits.deployments.create("e", deployment(), None)
    assert [d.name[-1] for d in digits.deployments.page("", "", 9)] == ["c", "d", "e"]
    assert [d.name[-1] for d in digits.deployments.page("digits", "", 9)] == ["d", "e"]
    assert [d.name[-1] for d in digits.deployments.page("digits", "d", 9)] == ["e"]


def test_the_operation_is_done_when_the_state_is_reached(digits: Catalog) -> None:
    name = only(digits, done=False).name.removeprefix("operations/")
    report(digits, Deployment.DEPLOYING)
    assert not digits.operations.get(name).done
    report(digits, Deployment.DEGRADED)
    assert not digits.operations.get(name).done
    report(digits, Deployment.ACTIVE)
    done, response = digits.operations.get(name), Deployment()
    assert done.response.Unpack(response)
    assert (response.name, response.state) == ("deployments/d", Deployment.ACTIVE)
    assert metadata(done).state == Deployment.ACTIVE
    assert metadata(done).versions[0].ready_replicas == 1
    report(digits, Deployment.FAILED, reason="a worker died later")
    assert digits.operations.get(name) == done  # what is done stays done
    assert digits.deployments.get("d").state == Deployment.FAILED


def test_an_operation_under_way_says_what_it_waits_for(digits: Catalog) -> None:
    report(digits, Deployment.DEGRADED, reason="needs cuda, no worker has it")
    assert metadata(only(digits, done=False)).reason == "needs cuda, no worker has it"


def test_the_operation_fails_with_the_reason(digits: Catalog) -> None:
    report(digits, Deployment.FAILED, reason="version 1: tensor 'y' differs")
    failed = only(digits, done=True)
    assert failed.error.code == FAILED_PRECONDITION
    assert "tensor 'y' differs" in failed.error.message
    assert digits.deployments.get("d").reason == "version 1: tensor 'y' differs"


def test_a_running_operation_tells_how_things_stand(digits: Catalog) -> None:
    report(digits, Deployment.DEGRADED)
    told = metadata(only(digits, done=False))
    assert (told.state, told.generation, told.versions[0].version) == (Deployment.DEGRADED, 1, "1")


def test_a_change_of_what_is_wanted_is_a_new_generation_and_ends_the_older_operation(digits: Catalog) -> None:
    first = only(digits, done=False)
    before = digits.deployments.get("d")
    second = digits.deployments.update("d", changing(replicas=2), before.etag)
    after = digits.deployments.get("d")
    assert (after.generation, after.replicas, after.state) == (2, 2, Deployment.DEPLOYING)
    assert after.etag != before.etag
    assert metadata(second).generation == 2
    assert digits.operations.get(first.name.removeprefix("operations/")).error.code == ABORTED
    report(digits, Deployment.ACTIVE, generation=1)  # about the older one: too late
    assert not digits.operations.get(second.name.removeprefix("operations/")).done
    assert digits.deployments.get("d").state == Deployment.DEPLOYING
    report(digits, Deployment.ACTIVE, generation=2)
    assert digits.operations.get(second.name.removeprefix("operations/")).HasField("response")


def test_a_report_on_what_is_yet_to_come_settles_nothing_that_comes(digits: Catalog) -> None:
    report(digits, Deployment.ACTIVE, generation=99)
    assert not digits.deployments.update("d", changing(replicas=2), "").done


def test_a_stale_report_still_tells_what_versions_do(digits: Catalog) -> None:
    digits.deployments.update("d", changing(replicas=2), "")
    report(digits, Deployment.ACTIVE, generation=1)
    assert digits.deployments.get("d").versions[0].ready_replicas == 1


def test_a_change_of_labels_is_no_new_generation(digits: Catalog) -> None:
    report(digits, Deployment.ACTIVE)
    before = digits.deployments.get("d")
    operation = digits.deployments.update("d", changing(labels={"team": "vision"}), "")
    after = digits.deployments.get("d")
    assert (after.generation, after.state) == (before.generation, Deployment.ACTIVE)
    assert after.etag != before.etag
    assert operation.HasField("response")  # what is wanted is there already


def test_asking_again_for_the_same_leaves_a_running_operation_alone(digits: Catalog) -> None:
    first = only(digits, done=False)
    second = digits.deployments.update("d", changing(), "")
    assert not digits.operations.get(first.name.removeprefix("operations/")).done
    report(digits, Deployment.ACTIVE)
    for operation in (first, second):
        assert digits.operations.get(operation.name.removeprefix("operations/")).HasField("response")


def test_a_stale_etag_is_refused(digits: Catalog) -> None:
    etag = digits.deployments.get("d").etag
    report(digits, Deployment.ACTIVE)  # a report is no change of what is wanted: the etag holds
    digits.deployments.update("d", changing(replicas=2), etag)
    with pytest.raises(Conflict):
        digits.deployments.update("d", changing(replicas=3), etag)
    with pytest.raises(Conflict):
        digits.deployments.delete("d", etag)


def test_an_update_may_not_target_what_is_not_there(digits: Catalog) -> None:
    with pytest.raises(NotFound):
        digits.deployments.update("d", changing(traffic=[TrafficTarget(version="9", weight=1)]), "")
    assert digits.deployments.get("d").traffic[0].version == "1"


def test_deleting_ends_the_operation_and_a_late_report_does_not_touch_the_successor(digits: Catalog) -> None:
    digits.deployments.delete("d", "")
    assert only(digits, done=True).error.code == ABORTED
    with pytest.raises(NotFound):
        digits.deployments.get("d")
    report(digits, Deployment.ACTIVE)  # ignored
    digits.deployments.create("d", deployment(v2=1), None)
    report(digits, Deployment.ACTIVE, generation=1)
    assert digits.deployments.get("d").state == Deployment.DEPLOYING
    assert not only(digits, done=False).done


def test_operations_are_listed_cancelled_and_forgotten(digits: Catalog) -> None:
    digits.deployments.create("e", deployment(), None)
    first, second = digits.operations.page(None, "", "", 9)
    name = first.name.removeprefix("operations/")
    assert digits.operations.page(None, "e", "", 9) == [second]
    assert digits.operations.page(None, "", name, 9) == [second]
    digits.operations.cancel(name)
    assert digits.operations.get(name).error.code == CANCELLED
    digits.operations.cancel(name)
    assert digits.deployments.get("d").state == Deployment.DEPLOYING  # what is wanted stays wanted
    assert digits.operations.page(True, "", "", 9) == [digits.operations.get(name)]
    digits.operations.delete(name)
    for call in (digits.operations.get, digits.operations.cancel, digits.operations.delete):
        with pytest.raises(NotFound):
            call(name)


def test_the_snapshot_resolves_targets(digits: Catalog) -> None:
    digits.aliases.set("digits", "canary", 2, "", "")
    digits.deployments.update(
        "d",
        changing(traffic=[TrafficTarget(version=v, weight=w) for v, w in (("prod", 9), ("latest", 1), ("1", 0))]),
        "",
    )
    desired = digits.state.desired()
    (wanted,) = desired.deployments
    assert [(t.version, t.weight) for t in wanted.targets] == [("1", 9), ("2", 1), ("1", 0)]
    assert dict(wanted.aliases) == {"prod": "1", "canary": "2"}
    assert [v.name.rpartition("/")[2] for v in wanted.versions] == ["2", "1"]
    assert not any(v.samples for v in wanted.versions)
    assert wanted.deployment.generation == 2
    assert desired.revision == digits.state.revision()


def test_the_snapshot_shows_targets_aliases_and_ten_more_versions(digits: Catalog) -> None:
    for _ in range(18):  # 20 in all; 1 is a target and an alias
        digits.versions.create("digits", version(), None, False)
    (wanted,) = digits.state.desired().deployments
    assert [int(v.name.rpartition("/")[2]) for v in wanted.versions] == [*range(20, 10, -1), 1]


def test_the_revision_grows_with_what_the_snapshot_shows_and_with_nothing_else(digits: Catalog) -> None:
    def grows(action: Callable[[], object]) -> bool:
        before, shown = digits.state.revision(), digits.state.desired().deployments
        action()
        after = digits.state.revision()
        assert (after > before) or digits.state.desired().deployments == shown
        return after > before

    assert grows(lambda: digits.aliases.set("digits", "prod", 2, "1", ""))
    assert not grows(lambda: digits.aliases.set("digits", "prod", 2, "", ""))
    assert grows(lambda: digits.versions.create("digits", version(), None, False))
    assert grows(lambda: digits.versions.delete("digits", 3))
    assert grows(lambda: digits.deployments.update("d", changing(replicas=3), ""))
    assert grows(lambda: digits.deployments.create("e", deployment(), None))
    assert grows(lambda: digits.deployments.delete("e", ""))
    assert grows(lambda: digits.aliases.delete("digits", "prod", ""))
    assert not grows(lambda: report(digits, Deployment.ACTIVE, generation=2))
    assert not grows(lambda: digits.versions.create("unused", version(), None, True))


def test_an_alias_that_moves_raises_the_revision_but_not_the_generation(digits: Catalog) -> None:
    digits.deployments.create("p", deployment(prod=1), None)
    before = digits.state.revision()
    digits.aliases.set("digits", "prod", 2, "1", "")
    assert digits.state.revision() > before
    assert digits.deployments.get("p").generation == 1
    (moved,) = [w for w in digits.state.desired().deployments if w.deployment.name == "deployments/p"]
    assert moved.targets[0].version == "2"
