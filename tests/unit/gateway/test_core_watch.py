"""Which snapshots become the truth, above all after a restart of the scheduler."""

import asyncio
from random import Random

from infermesh.gateway.reconcile import reconcile
from infermesh.gateway.watch import RouteWatch, Snapshots
from infermesh.v1.scheduler_service_pb2 import RouteSnapshot
from infermesh.v1.worker_pb2 import HeldVersion
from tests.unit.gateway.simulation import SimScheduler, SimWorker, deployed, settle, snapshot
from tests.unit.gateway.virtual import run

A, B = SimWorker("a", {}), SimWorker("b", {})
BOTH = snapshot(deployed({"1": [A, B]}), workers=[A, B], revision=5, epoch="old")


class Truth:
    """What was applied last, and whose stream is whole."""

    def __init__(self, *trusted: str) -> None:
        self.used: list[RouteSnapshot] = []
        self.trusted = set(trusted)
        self.snapshots = Snapshots(self.used.append, self.trusted.__contains__, settle=10.0)

    @property
    def workers(self) -> set[str]:
        return {worker.id for worker in self.used[-1].workers}

    @property
    def holders(self) -> set[str]:
        return {worker for route in self.used[-1].deployments for v in route.versions for worker in v.workers}


def empty(epoch: str, revision: int = 1) -> RouteSnapshot:
    return RouteSnapshot(epoch=epoch, revision=revision)


def test_within_an_epoch_the_scheduler_is_believed() -> None:
    truth = Truth("a", "b")
    truth.snapshots.take(BOTH)

    truth.snapshots.take(snapshot(deployed({"1": [A]}), workers=[A], revision=6, epoch="old"))

    assert truth.workers == {"a"}


def test_an_older_revision_of_the_same_epoch_is_ignored() -> None:
    truth = Truth()
    truth.snapshots.take(BOTH)

    truth.snapshots.take(empty("old", revision=4))

    assert truth.workers == {"a", "b"}


def test_a_restarted_scheduler_that_knows_nothing_wipes_nothing_that_works() -> None:
    async def scenario() -> None:
        truth = Truth("a", "b")
        truth.snapshots.take(BOTH)

        truth.snapshots.take(empty("new"))

        assert truth.workers == truth.holders == {"a", "b"}
        truth.snapshots.away()

    run(scenario())


def test_a_worker_whose_stream_is_broken_goes_with_the_old_epoch() -> None:
    async def scenario() -> None:
        truth = Truth("a")
        truth.snapshots.take(BOTH)

        truth.snapshots.take(empty("new"))

        assert truth.workers == truth.holders == {"a"}
        truth.snapshots.away()

    run(scenario())


def test_a_worker_that_the_new_epoch_has_named_is_the_schedulers_to_drop() -> None:
    async def scenario() -> None:
        truth = Truth("a", "b")
        truth.snapshots.take(BOTH)
        truth.snapshots.take(snapshot(deployed({"1": [A]}), workers=[A], revision=1, epoch="new"))
        assert truth.workers == {"a", "b"}

        truth.snapshots.take(snapshot(deployed({"1": [B]}), workers=[B], revision=2, epoch="new"))

        assert truth.workers == truth.holders == {"b"}
        truth.snapshots.away()

    run(scenario())


def test_after_the_settling_time_the_new_epoch_is_believed() -> None:
    async def scenario() -> None:
        truth = Truth("a", "b")
        truth.snapshots.take(BOTH)
        truth.snapshots.take(empty("new"))

        await asyncio.sleep(9.9)
        assert truth.workers == {"a", "b"}
        await asyncio.sleep(0.2)

        assert truth.workers == set()

    run(scenario())


def test_settling_time_does_not_pass_while_the_scheduler_is_away() -> None:
    async def scenario() -> None:
        truth = Truth("a", "b")
        truth.snapshots.take(BOTH)
        for number in range(20):  # it dies every six seconds, before it has learnt anything
            truth.snapshots.take(empty(f"new{number}"))
            await asyncio.sleep(6)
            truth.snapshots.away()
            await asyncio.sleep(6)

        assert truth.workers == {"a", "b"}

    run(scenario())


def test_shares_are_not_moved_by_who_is_heard_of_first() -> None:
    old = snapshot(deployed({"2": [A], "1": [B]}, weights={"2": 10, "1": 90}), workers=[A, B], epoch="old")
    heard = snapshot(deployed({"2": [A], "1": []}, weights={"2": 10}), workers=[A], epoch="new")

    merged = reconcile(old, heard, {"b"})

    assert [(share.version, share.weight) for share in merged.deployments[0].traffic] == [("2", 10), ("1", 90)]
    assert [list(v.workers) for v in merged.deployments[0].versions] == [["a"], ["b"]]
    assert all(v.state == HeldVersion.READY for v in merged.deployments[0].versions)


def test_a_deployment_that_nobody_kept_serves_is_as_the_new_epoch_says() -> None:
    old = snapshot(deployed({"1": [A]}), deployed({"1": [B]}, name="faces"), workers=[A, B], epoch="old")
    heard = snapshot(deployed({"3": [A]}), workers=[A], epoch="new")

    merged = {route.deployment: route for route in reconcile(old, heard, {"b"}).deployments}

    assert [v.version for v in merged["digits"].versions] == ["3"]
    assert list(merged["faces"].versions[0].workers) == ["b"]


def test_new_workers_and_versions_join_a_deployment_that_is_kept() -> None:
    c = SimWorker("c", {})
    old = snapshot(deployed({"1": [A]}), workers=[A], epoch="old")
    heard = snapshot(deployed({"2": [c], "1": [c]}), workers=[c], epoch="new")

    versions = {v.version: list(v.workers) for v in reconcile(old, heard, {"a"}).deployments[0].versions}

    assert versions == {"1": ["a", "c"], "2": ["c"]}


def test_a_version_that_lost_its_workers_is_not_shown_as_ready() -> None:
    old = snapshot(deployed({"2": [A], "1": [B]}), workers=[A, B], epoch="old")

    merged = reconcile(old, empty("new"), {"b"})

    route = merged.deployments[0]
    assert [share.version for share in route.traffic] == ["1"]
    assert {v.version: v.state for v in route.versions}["2"] == HeldVersion.STATE_UNSPECIFIED


def test_reconciling_changes_neither_snapshot() -> None:
    heard = snapshot(deployed({"1": [A]}), workers=[A], epoch="new")
    before = (BOTH.SerializeToString(deterministic=True), heard.SerializeToString(deterministic=True))

    reconcile(BOTH, heard, {"b"})

    assert (BOTH.SerializeToString(deterministic=True), heard.SerializeToString(deterministic=True)) == before


def test_the_watch_comes_back_however_long_the_scheduler_is_away() -> None:
    async def scenario() -> None:
        scheduler, truth = SimScheduler(), Truth("a", "b")
        watching = asyncio.create_task(RouteWatch(scheduler.subscribe, truth.snapshots, Random(1)).run())
        scheduler.publish(BOTH)
        await settle()
        scheduler.kill()
        await asyncio.sleep(3600)
        assert truth.workers == {"a", "b"}

        scheduler.up = True
        scheduler.publish(snapshot(deployed({"1": [B]}), workers=[B], epoch="new"))
        await asyncio.sleep(5)

        assert truth.workers == {"a", "b"}
        await asyncio.sleep(10)
        assert truth.workers == {"b"}
        watching.cancel()

    run(scenario())


def test_a_snapshot_that_we_fail_on_does_not_end_the_watch() -> None:
    async def scenario() -> None:
        scheduler, used = SimScheduler(), []

        def apply(routes: RouteSnapshot) -> None:
            if routes.revision == 1:
                raise ValueError("a fault of ours")
            used.append(routes.revision)

        watching = asyncio.create_task(
            RouteWatch(scheduler.subscribe, Snapshots(apply, lambda _: False, 1.0), Random(1)).run()
        )
        scheduler.publish(empty("e", revision=1))
        await settle()
        scheduler.publish(empty("e", revision=2))
        await asyncio.sleep(5)

        assert used[-1] == 2
        watching.cancel()

    run(scenario())
