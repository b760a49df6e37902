"""What gateways are told."""

from typing import Any

from infermesh.scheduler.model import Deployment, Plan, State, Version
from infermesh.scheduler.routes import RouteBook, route_of, workers_of
from infermesh.scheduler.standing import Standing, standings, survey
from infermesh.scheduler.status import Status
from infermesh.v1.deployment_pb2 import Batching, Hedging
from infermesh.v1.deployment_pb2 import Deployment as DeploymentMessage
from infermesh.v1.model_pb2 import ModelVersion, Signature
from infermesh.v1.scheduler_service_pb2 import DeploymentRoute, ResolvedRoute, RouteSnapshot, RouteWorker, VersionRoute
from infermesh.v1.tensor_pb2 import TensorSpec
from infermesh.v1.worker_pb2 import HeldVersion
from tests.unit.scheduler.build import deployment, held, ready, version, worker

SIGNATURE = Signature(inputs=[TensorSpec(name="x", datatype="FP32", shape=[-1, 4])])
ACTIVE = Status(DeploymentMessage.ACTIVE)


def wanted() -> Deployment:
    facts = ModelVersion(signature=SIGNATURE, max_batch_size=8)
    spec = DeploymentMessage(policy="least_load", batching=Batching(max_batch_size=4), hedging=Hedging(budget=0.1))
    spec.single_flight = True
    versions = {n: Version(n, f"sha256:{n}", "torch", facts=facts) for n in ("2", "1")}
    base = deployment(targets={"2": 3}, aliases={"prod": "2"}, model="digits-model")
    return Deployment(base.id, base.model, base.targets, versions, base.aliases, spec=spec)


def test_a_route_has_all_that_a_gateway_needs() -> None:
    standing = {
        "2": Standing("2", serving=("w1", "w2"), state=State.READY, load_seconds=1.5),
        "1": Standing("1", failures=(("w1", "bad"),), state=State.FAILED),
    }
    common: Any = {"backend": "torch", "signature": SIGNATURE, "max_batch_size": 8}
    assert route_of(wanted(), ACTIVE, standing) == DeploymentRoute(
        deployment="d",
        model="digits-model",
        traffic=[ResolvedRoute(version="2", weight=3)],
        versions=[
            VersionRoute(
                version="2",
                digest="sha256:2",
                state=HeldVersion.READY,
                workers=["w1", "w2"],
                load_seconds=1.5,
                **common,
            ),
            VersionRoute(version="1", digest="sha256:1", state=HeldVersion.FAILED, reason="bad", **common),
        ],
        aliases={"prod": "2"},
        policy="least_load",
        batching=Batching(max_batch_size=4),
        state=DeploymentMessage.ACTIVE,
        hedging=Hedging(budget=0.1),
        single_flight=True,
    )


def test_a_deployment_that_nobody_has_still_has_a_route() -> None:
    status = Status(DeploymentMessage.DEGRADED, "no worker is alive")
    route = route_of(wanted(), status, standings(wanted(), {}))
    assert (list(route.traffic), route.reason) == ([], "no worker is alive")
    assert [(each.version, each.state, list(each.workers)) for each in route.versions] == [("2", 0, []), ("1", 0, [])]


def test_a_version_that_is_ready_elsewhere_has_no_reason() -> None:
    mixed = {"2": Standing("2", serving=("w1",), failures=(("w2", "bad"),), state=State.READY)}
    assert route_of(wanted(), ACTIVE, mixed).versions[0].reason == ""


def test_the_numbers_of_states_are_those_of_the_message() -> None:
    assert {state.name: int(state) for state in State} == {
        name: number for name, number in HeldVersion.State.items() if number
    }


def test_what_shall_go_is_no_longer_routed_to() -> None:
    seen = survey([worker("w1", *ready("d/1"))], Plan({"w1": ()}))
    there = standings(deployment(targets=["1"], versions=[version("1")]), seen["d"])
    assert not route_of(deployment(targets=["1"]), ACTIVE, there).versions[0].workers


def test_workers_that_hold_something_ready_are_named_also_draining_ones() -> None:
    fleet = [
        worker("w1", *ready("d/1"), draining=True),
        worker("w2", held("d/1", State.LOADING)),
        worker("w3", *ready("d/2")),
    ]
    assert workers_of(fleet) == [
        RouteWorker(id="w1", address="w1:1", incarnation="w1-a", weight=1.0),
        RouteWorker(id="w3", address="w3:1", incarnation="w3-a", weight=1.0),
    ]


class TestRouteBook:
    WORKERS = (RouteWorker(id="w1"),)
    ROUTES = (DeploymentRoute(deployment="d"),)

    def test_the_first_snapshot_counts_even_when_it_is_empty(self) -> None:
        assert RouteBook("e").write((), ()) == RouteSnapshot(epoch="e", revision=1)

    def test_the_same_content_is_the_same_snapshot(self) -> None:
        book = RouteBook("e")
        first = book.write(self.WORKERS, self.ROUTES)
        assert book.write(list(self.WORKERS), list(self.ROUTES)) is first
        assert first.revision == 1

    def test_a_change_raises_the_revision_and_leaves_the_old_snapshot_alone(self) -> None:
        book = RouteBook("e")
        first = book.write(self.WORKERS, self.ROUTES)
        second = book.write((), self.ROUTES)
        assert (first.revision, second.revision) == (1, 2)
        assert len(first.workers) == 1
        assert book.write(self.WORKERS, self.ROUTES).revision == 3
