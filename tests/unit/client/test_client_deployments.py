"""Deploying: creating, changing, waiting, failing."""

import pytest

from infermesh import errors
from infermesh.client import AsyncClient, batching, hedging
from infermesh.v1 import deployment_pb2
from tests.unit.client.fake_mesh import FakeMesh


def traffic(deployment: deployment_pb2.Deployment) -> dict[str, int]:
    return {target.version: target.weight for target in deployment.traffic}


async def test_a_new_deployment_gets_the_newest_version(client: AsyncClient, mesh: FakeMesh) -> None:
    mesh.add_version("digits", 1)
    mesh.add_version("digits", 2)
    deployment = await client.deploy("digits")
    assert deployment.model == "models/digits"
    assert traffic(deployment) == {"2": 100}
    assert deployment.replicas == 1
    assert deployment.state == deployment_pb2.Deployment.ACTIVE


async def test_everything_that_is_given_is_wanted(client: AsyncClient, mesh: FakeMesh) -> None:
    mesh.add_version()
    deployment = await client.deploy(
        "shop",
        "digits",
        traffic={"1": 90, "prod": 10},
        replicas=2,
        device="cpu",
        policy="least_load",
        batching=batching(max_batch_size=8, max_delay=0.005, max_queue=50),
        labels={"team": "a"},
        hedging=hedging(0.02, delay=0.05),
        single_flight=True,
    )
    assert traffic(deployment) == {"1": 90, "prod": 10}
    assert (deployment.replicas, deployment.device, deployment.policy) == (2, "cpu", "least_load")
    assert deployment.batching.max_delay.ToMilliseconds() == 5
    assert dict(deployment.labels) == {"team": "a"}
    assert (deployment.hedging.budget, deployment.hedging.delay.ToMilliseconds()) == (0.02, 50)
    assert deployment.single_flight


async def test_a_change_touches_only_what_is_given(client: AsyncClient, mesh: FakeMesh) -> None:
    mesh.add_version()
    await client.deploy("digits", version=1, replicas=2, policy="random")
    deployment = await client.deploy("digits", version="prod")
    assert mesh.deployments.masks == [["traffic"]]
    assert traffic(deployment) == {"prod": 100}
    assert (deployment.replicas, deployment.policy) == (2, "random")


async def test_on_all_workers_of_a_pool_and_back_to_a_number(client: AsyncClient, mesh: FakeMesh) -> None:
    mesh.add_version()
    deployment = await client.deploy("digits", replicas="all", pool="cpu")
    assert (deployment.all_workers, deployment.replicas, deployment.pool) == (True, 0, "cpu")
    deployment = await client.deploy("digits", replicas=2)
    assert (deployment.all_workers, deployment.replicas, deployment.pool) == (False, 2, "cpu")
    deployment = await client.deploy("digits", replicas="all", pool="")
    assert (deployment.all_workers, deployment.pool) == (True, "")
    assert mesh.deployments.masks == [["replicas", "all_workers"], ["pool", "all_workers"]]


async def test_a_setting_that_there_is_not_is_refused_as_any_function_would(client: AsyncClient) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'replcias'"):
        await client.deploy("digits", replcias=2)  # type: ignore[call-arg]


async def test_deploying_again_without_a_change_waits_for_what_is(client: AsyncClient, mesh: FakeMesh) -> None:
    mesh.add_version()
    await client.deploy("digits", traffic={"1": 7})
    deployment = await client.deploy("digits")
    assert traffic(deployment) == {"1": 7}


async def test_somebody_faster_is_no_failure(client: AsyncClient, mesh: FakeMesh) -> None:
    mesh.add_version()
    await client.deploy("digits", version=1)
    mesh.deployments.hide_once.add("deployments/digits")
    deployment = await client.deploy("digits", replicas=3)
    assert deployment.replicas == 3


async def test_the_model_of_a_deployment_stays(client: AsyncClient, mesh: FakeMesh) -> None:
    mesh.add_version("digits")
    await client.deploy("shop", "digits")
    with pytest.raises(errors.InvalidInput, match="models/digits"):
        await client.deploy("shop", "other", version=1)


async def test_waiting_lasts_until_the_operation_ends(client: AsyncClient, mesh: FakeMesh) -> None:
    mesh.add_version()
    mesh.deployments.waits = 4
    seen: list[int] = []
    await client.deploy("digits", watch=lambda metadata: seen.append(metadata.versions[0].ready_replicas))
    assert seen == [0, 0, 0, 0, 1]


async def test_not_waiting_returns_at_once(client: AsyncClient, mesh: FakeMesh) -> None:
    mesh.add_version()
    deployment = await client.deploy("digits", wait=False)
    assert deployment.state == deployment_pb2.Deployment.DEPLOYING


async def test_an_operation_that_is_done_at_once(client: AsyncClient, mesh: FakeMesh) -> None:
    mesh.add_version()
    mesh.deployments.waits = 0
    assert (await client.deploy("digits")).state == deployment_pb2.Deployment.ACTIVE


async def test_a_version_that_fails_says_why(client: AsyncClient, mesh: FakeMesh) -> None:
    mesh.add_version()
    mesh.deployments.failure = errors.LoadFailed("version 1: tensor 'logits' differs by 0.5")
    with pytest.raises(errors.LoadFailed, match="tensor 'logits' differs"):
        await client.deploy("digits")


async def test_a_mesh_that_is_away_for_a_while_is_waited_for(client: AsyncClient, mesh: FakeMesh) -> None:
    mesh.add_version()
    mesh.deployments.wait_failures = [errors.NotReady("away")] * 9
    assert (await client.deploy("digits")).state == deployment_pb2.Deployment.ACTIVE


async def test_an_operation_that_is_unknown_is_not(client: AsyncClient, mesh: FakeMesh) -> None:
    mesh.add_version()
    mesh.deployments.wait_failures = [errors.NotFound.of("operation", "x")]
    with pytest.raises(errors.NotFound):
        await client.deploy("digits")


async def test_patience_ends_and_says_how_far_it_came(client: AsyncClient, mesh: FakeMesh) -> None:
    mesh.add_version()
    mesh.deployments.waits = 1_000_000
    with pytest.raises(errors.DeadlineExceeded, match="version 1: 0 ready, 1 loading"):
        await client.deploy("digits", timeout=0.05)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"version": 1, "traffic": {"1": 1}}, "not both"),
        ({"traffic": {}}, "at least one"),
        ({"replicas": "many"}, "a number or 'all', got 'many'"),
    ],
)
async def test_contradictions(client: AsyncClient, arguments: dict[str, object], text: str) -> None:
    with pytest.raises(errors.InvalidInput, match=text):
        await client.deploy("digits", **arguments)  # type: ignore[arg-type]


async def test_a_bad_id(client: AsyncClient) -> None:
    with pytest.raises(errors.InvalidInput, match="deployment id"):
        await client.deploy("No Way")


async def test_undeploy_and_listings(client: AsyncClient, mesh: FakeMesh) -> None:
    for model in ("a", "b", "c"):
        mesh.add_version(model)
        await client.deploy(model)
    assert [d.name async for d in client.deployments()] == [f"deployments/{n}" for n in "abc"]
    assert [d.name async for d in client.deployments(model="b")] == ["deployments/b"]
    await client.undeploy("b")
    with pytest.raises(errors.NotFound):
        await client.undeploy("b")
    assert [w.name async for w in client.workers()] == ["workers/w1", "workers/w2", "workers/w3"]
