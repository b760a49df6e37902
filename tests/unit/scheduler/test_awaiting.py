"""Deployments that follow a pool, down to nothing and up again."""

import pytest

from infermesh.scheduler.awaiting import LoadTimes, is_awaited, is_unmanned, pools_for
from infermesh.scheduler.control import Control
from infermesh.scheduler.fleet import Fleet
from infermesh.scheduler.model import State, Worker
from infermesh.scheduler.placement.spread import Spread
from infermesh.scheduler.standing import Standing
from infermesh.v1.deployment_pb2 import Deployment as DeploymentMessage
from infermesh.v1.scheduler_service_pb2 import DeploymentRoute
from infermesh.v1.state_service_pb2 import DeploymentReport
from tests.unit.scheduler.build import deployment, desired, held, ready, version, worker

DOWN = {"1": Standing("1")}
UP = {"1": Standing("1", serving=("w1",))}


@pytest.mark.parametrize(
    ("pool", "device", "of_version", "from_zero", "expected"),
    [
        ("x", "", "", {}, []),
        ("x", "", "", {"x": ""}, ["x"]),
        ("x", "", "", {"y": ""}, []),
        ("", "", "", {"x": "cpu", "y": ""}, ["x", "y"]),
        ("", "cuda", "", {"x": "cpu", "y": "cuda"}, ["y"]),
        ("", "cpu", "cuda", {"x": "cpu", "y": "cuda"}, ["y"]),
        ("x", "cuda", "", {"x": "cpu"}, []),
    ],
)
def test_pools_that_may_grow_for_a_deployment(
    pool: str, device: str, of_version: str, from_zero: dict[str, str], expected: list[str]
) -> None:
    wanted = deployment(versions=[version("1", device=of_version)], pool=pool, device=device)
    assert pools_for(wanted, from_zero) == expected
    assert is_awaited(wanted, DOWN, from_zero) is bool(expected)
    assert not is_awaited(wanted, UP, from_zero)


def test_unmanned_is_what_shall_be_on_all_workers_of_an_empty_pool() -> None:
    wanted = deployment(all_workers=True, pool="x")
    assert is_unmanned(wanted, [])
    assert is_unmanned(wanted, [worker("a", pool="y"), worker("b", pool="x", draining=True)])
    assert not is_unmanned(wanted, [worker("a", pool="x", device="cuda")])
    assert not is_unmanned(deployment(pool="x"), [])
    assert not is_unmanned(deployment(all_workers=True), [worker("a", pool="y")])


def test_load_times_outlive_the_workers_that_took_them() -> None:
    times, wanted = LoadTimes(), deployment()
    measured = {"1": Standing("1", load_seconds=3.0), "2": Standing("2")}
    assert times.complete(wanted, measured) == measured
    times.forget([wanted])
    assert times.complete(wanted, DOWN)["1"].load_seconds == 3.0
    times.forget([])
    assert times.complete(wanted, DOWN) == DOWN


class Mesh:
    """A control with one deployment, asked after each change."""

    def __init__(self, wanted: object, from_zero: dict[str, str]) -> None:
        self.control = Control(Fleet(1.0, 0.0), Spread(), epoch="e", settled_at=0.0, from_zero=from_zero)
        self.control.want(desired(wanted))  # type: ignore[arg-type]
        self.there: list[Worker] = []

    def look(self, *workers: Worker) -> tuple[DeploymentRoute, DeploymentReport]:
        for gone in {one.id: one for one in self.there if one.id not in {w.id for w in workers}}.values():
            self.control.hear(gone, 0.0, leaving=True)
        for one in workers:
            self.control.hear(one, 0.0, leaving=False)
        self.there = list(workers)
        self.control.renew()
        assert self.control.routes is not None
        return self.control.routes.deployments[0], self.control.reports[0]


def test_one_to_none_and_back() -> None:
    mesh = Mesh(deployment(targets={"2": 3, "1": 0}, all_workers=True, pool="x", aliases={"prod": "2"}), {"x": "cpu"})
    route, report = mesh.look()
    assert route.awaited
    assert (report.state, report.reason) == (
        DeploymentMessage.ACTIVE,
        "no worker now: its pool has shrunk to nothing, and grows with the next call",
    )
    loading = worker("a", held("d/2", State.LOADING), held("d/1", State.LOADING), pool="x")
    route, report = mesh.look(loading)
    assert (route.awaited, report.state) == (True, DeploymentMessage.DEPLOYING)
    route, report = mesh.look(worker("a", *ready("d/2", "d/1"), pool="x"))
    assert (route.awaited, report.state) == (False, DeploymentMessage.ACTIVE)
    route, _ = mesh.look(worker("a", *ready("d/2", "d/1"), pool="x", draining=True))
    assert (route.awaited, list(route.versions[3].workers)) == (False, ["a"])
    route, report = mesh.look()
    assert (route.awaited, report.state) == (True, DeploymentMessage.ACTIVE)
    # what calls are held for is known, by number and by alias
    assert [(share.version, share.weight) for share in route.traffic] == [("2", 3)]
    assert dict(route.aliases) == {"prod": "2"}
    assert not any(one.workers for one in route.versions)


def test_without_a_pool_that_grows_calls_are_not_awaited_and_the_state_says_so() -> None:
    mesh = Mesh(deployment(all_workers=True, pool="x"), {})
    route, report = mesh.look(worker("a", pool="y"))
    assert (route.awaited, list(route.traffic)) == (False, [])
    assert (report.state, report.reason) == (DeploymentMessage.DEPLOYING, "no worker in pool 'x'")


def test_a_failure_is_told_rather_than_waited_for_and_forgotten_with_its_worker() -> None:
    mesh = Mesh(deployment(all_workers=True, pool="x"), {"x": ""})
    broken = worker("a", held("d/1", State.FAILED, reason="bad"), pool="x")
    route, report = mesh.look(broken)
    assert (route.state, report.state) == (DeploymentMessage.FAILED, DeploymentMessage.FAILED)
    mesh.look()
    _, report = mesh.look(worker("b", pool="x"))
    assert (report.state, mesh.control.plan.assignments["b"][0].version) == (DeploymentMessage.DEPLOYING, "1")
