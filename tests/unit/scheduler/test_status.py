"""What the registry is told."""

from infermesh.scheduler.model import State, Unplaced
from infermesh.scheduler.standing import Standing
from infermesh.scheduler.status import Status, report_of, status_of
from infermesh.v1.deployment_pb2 import Deployment, VersionStatus
from tests.unit.scheduler.build import deployment


def up(number: str, workers: int = 1) -> Standing:
    ids = tuple(f"w{n}" for n in range(workers))
    return Standing(number, serving=ids, ready=workers, staying=workers, state=State.READY)


def stand(*standings: Standing) -> dict[str, Standing]:
    return {standing.version: standing for standing in standings}


def test_active_when_every_target_is_ready_on_the_wanted_number() -> None:
    wanted = deployment(targets=["1", "2"], replicas=2)
    assert status_of(wanted, stand(up("1", 2), up("2", 2)), ()) == Status(Deployment.ACTIVE)


def test_deploying_while_something_is_on_its_way() -> None:
    loading = Standing("1", loading=2, ready=1, staying=1)
    assert status_of(deployment(replicas=3), stand(loading), ()) == Status(
        Deployment.DEPLOYING, "version 1 is ready on 1 of 3 workers, 2 loading"
    )


def test_degraded_when_nothing_is_on_its_way() -> None:
    unplaced = [Unplaced("e", "1", 1, "another's"), Unplaced("d", "1", 1, "no worker is alive")]
    assert status_of(deployment(), {}, unplaced) == Status(
        Deployment.DEGRADED, "version 1 is ready on 0 of 1 workers: no worker is alive"
    )


def test_what_a_draining_worker_has_does_not_count_for_long() -> None:
    leaving = Standing("1", serving=("w1",), ready=1, staying=0, loading=1)
    assert status_of(deployment(), stand(leaving), ()).state == Deployment.DEPLOYING


def test_failed_names_version_worker_and_reason() -> None:
    broken = Standing("2", failures=(("w1", "output 'y': expected 1.0, got 2.0"),))
    assert status_of(deployment(targets=["1", "2"]), stand(up("1"), broken), ()) == Status(
        Deployment.FAILED, "version 2 failed to load on worker w1: output 'y': expected 1.0, got 2.0"
    )


def test_failed_counts_further_workers() -> None:
    broken = Standing("1", failures=(("w1", ""), ("w2", ""), ("w3", "")))
    assert status_of(deployment(), stand(broken), ()).reason == (
        "version 1 failed to load on worker w1 (and 2 more): no reason given"
    )


def test_a_failure_of_what_is_no_longer_a_target_does_not_count() -> None:
    broken = Standing("2", failures=(("w1", "bad"),), state=State.FAILED)
    assert status_of(deployment(targets=["1"]), stand(broken, up("1")), ()).state == Deployment.ACTIVE


def test_a_report_tells_of_targets_and_of_all_that_workers_have() -> None:
    broken = Standing("3", failures=(("w1", "bad"),), state=State.FAILED)
    standings = stand(Standing("5"), Standing("4"), broken, Standing("2", loading=1), up("1", 2))
    report = report_of(deployment(targets=["2"], generation=7), Status(Deployment.DEPLOYING, "why"), standings)
    assert (report.name, report.generation) == ("deployments/d", 7)
    assert (report.state, report.reason) == (Deployment.DEPLOYING, "why")
    assert list(report.versions) == [
        VersionStatus(version="3", failure="bad"),
        VersionStatus(version="2", loading_replicas=1),
        VersionStatus(version="1", ready_replicas=2, routed=True),
    ]


def test_on_all_workers_it_is_active_once_nothing_of_it_lacks_or_loads_anywhere() -> None:
    wanted = deployment(all_workers=True)
    assert status_of(wanted, stand(up("1", 3)), ()) == Status(Deployment.ACTIVE)
    loading = Standing("1", serving=("w1",), ready=1, staying=1, loading=1, state=State.READY)
    assert status_of(wanted, stand(loading), ()) == Status(
        Deployment.DEPLOYING, "version 1 is ready on 1 of 2 workers, 1 loading"
    )
    assert status_of(wanted, stand(up("1", 2)), [Unplaced("d", "1", 1, "needs 2 GiB")]) == Status(
        Deployment.DEGRADED, "version 1 is ready on 2 of 3 workers: needs 2 GiB"
    )


def test_on_all_workers_of_an_empty_pool_it_is_under_way_or_at_rest() -> None:
    wanted = deployment(targets=["1", "2"], all_workers=True)
    unplaced = [Unplaced("d", number, 1, "no worker is alive") for number in "12"]
    assert status_of(wanted, {}, unplaced, unmanned=True) == Status(Deployment.DEPLOYING, "no worker is alive")
    assert status_of(wanted, {}, unplaced, unmanned=True, awaited=True).state == Deployment.ACTIVE
