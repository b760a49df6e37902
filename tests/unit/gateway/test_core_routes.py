"""Which version answers, and which error says why none does."""

from collections import Counter
from random import Random

import pytest

from infermesh.errors import LoadFailed, NotFound, NotReady
from infermesh.gateway.routes import RouteTable
from infermesh.v1.deployment_pb2 import Deployment
from infermesh.v1.scheduler_service_pb2 import DeploymentRoute
from infermesh.v1.worker_pb2 import HeldVersion
from tests.unit.gateway.simulation import SimWorker, deployed, snapshot

A, B = SimWorker("a", {}), SimWorker("b", {})


def table(*deployments: DeploymentRoute) -> RouteTable:
    routes = RouteTable(Random(1))
    routes.apply(snapshot(*deployments, workers=[A, B]))
    return routes


def test_a_version_is_found_by_its_number() -> None:
    routes = table(deployed({"2": [A], "1": [B]}))

    assert routes.resolve("digits", "1") == "digits/1"
    assert routes.version("digits", "1").version == "1"
    assert routes.targets[routes.resolve("digits", "1")].workers == ("b",)


def test_an_alias_leads_to_what_answers_for_it_now() -> None:
    routes = table(deployed({"2": [A], "1": [B]}, aliases={"prod": "1"}))

    assert routes.resolve("digits", "prod") == "digits/1"
    assert routes.version("digits", "prod").version == "1"


def test_calls_without_a_version_follow_the_shares() -> None:
    routes = table(deployed({"2": [A], "1": [B]}, weights={"2": 1, "1": 9}))

    found = Counter(routes.resolve("digits", "") for _ in range(500))

    assert abs(found["digits/2"] - 50) <= 3


def test_a_weight_of_zero_gets_named_calls_only() -> None:
    routes = table(deployed({"2": [A], "1": [B]}, weights={"2": 0, "1": 1}))

    assert {routes.resolve("digits", "") for _ in range(50)} == {"digits/1"}
    assert routes.resolve("digits", "2") == "digits/2"


def test_metadata_without_a_version_is_that_of_the_largest_share() -> None:
    routes = table(deployed({"2": [A], "1": [B]}, weights={"2": 10, "1": 90}))

    assert {routes.version("digits", "").version for _ in range(20)} == {"1"}


def test_an_unknown_model_is_not_found() -> None:
    with pytest.raises(NotFound, match="model 'other' not found") as caught:
        table(deployed({"1": [A]})).resolve("other", "")
    assert caught.value.reason == "MODEL_NOT_FOUND"


@pytest.mark.parametrize("version", ["9", "staging"])
def test_an_unknown_version_or_alias_is_not_found_and_says_what_there_is(version: str) -> None:
    routes = table(deployed({"2": [A], "1": [B]}, aliases={"prod": "1"}))

    for ask in (routes.resolve, routes.version):
        with pytest.raises(NotFound, match=r"2, 1, prod") as caught:
            ask("digits", version)
        assert caught.value.reason == "VERSION_NOT_FOUND"


@pytest.mark.parametrize("version", ["2", "next"])
def test_a_version_that_loads_is_not_ready_and_says_when_to_come_back(version: str) -> None:
    routes = table(deployed({"2": [], "1": [B]}, aliases={"next": "2"}))

    for ask in (routes.resolve, routes.version):
        with pytest.raises(NotReady, match=r"version 2 .* is loading") as caught:
            ask("digits", version)
        assert caught.value.retry_after == 7.0


def test_without_a_measured_time_the_retry_is_soon() -> None:
    route = deployed({"1": []})
    route.versions[0].load_seconds = 0

    with pytest.raises(NotReady) as caught:
        table(route).resolve("digits", "1")
    assert caught.value.retry_after == 1.0


def test_a_version_that_is_on_no_worker_is_not_ready() -> None:
    route = deployed({"1": []})
    route.versions[0].state = HeldVersion.STATE_UNSPECIFIED

    with pytest.raises(NotReady, match="on no worker yet"):
        table(route).resolve("digits", "1")


def test_a_version_that_failed_says_why() -> None:
    route = deployed({"1": []})
    route.versions[0].state = HeldVersion.FAILED
    route.versions[0].reason = "tensor 'x' differs"

    with pytest.raises(LoadFailed, match="tensor 'x' differs"):
        table(route).version("digits", "1")


def test_a_deployment_without_traffic_is_not_ready_or_failed() -> None:
    route = deployed({"1": []})

    for ask in (table(route).resolve, table(route).version):
        with pytest.raises(NotReady) as caught:
            ask("digits", "")
        assert caught.value.retry_after == 7.0

    route.state, route.reason = Deployment.FAILED, "golden check"
    with pytest.raises(LoadFailed, match="golden check"):
        table(route).resolve("digits", "")


def test_before_the_first_snapshot_nothing_is_known_to_be_missing() -> None:
    with pytest.raises(NotReady):
        RouteTable().resolve("digits", "")
    with pytest.raises(NotReady):
        RouteTable().deployment("digits")


def test_a_worker_without_an_address_is_left_out() -> None:
    stranger = SimWorker("stranger", {})
    routes = table(deployed({"2": [stranger], "1": [A, stranger]}))

    assert routes.targets[routes.resolve("digits", "1")].workers == ("a",)
    assert {routes.resolve("digits", "") for _ in range(20)} == {"digits/1"}
    with pytest.raises(NotReady):
        routes.resolve("digits", "2")
