"""What every implementation of Workloads does: the fake, and the adapter on a real cluster."""

import os
import secrets
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import pytest

from infermesh.errors import Conflict, InvalidInput, NotFound, NotReady, PermissionDenied
from infermesh.scheduler.workloads import Scale, Workloads
from infermesh.testing.workloads import FakeWorkloads

WORKLOAD = "workers"
POD = "workers-1"


@dataclass
class Stage:
    """`workloads` with a Deployment of 2 replicas and a pod; `cost` reads the pod's annotation; `change` is somebody
    else who sets a number."""

    workloads: Workloads

    def cost(self) -> int | None:
        assert isinstance(self.workloads, FakeWorkloads)
        return self.workloads.costs[POD]

    def change(self, replicas: int) -> None:
        assert isinstance(self.workloads, FakeWorkloads)
        self.workloads.change(WORKLOAD, replicas)


class RealStage(Stage):
    """The same in a namespace of its own; nothing has to run there."""

    def __init__(self) -> None:
        from kubernetes import client

        from infermesh.scheduler.cluster import api_client
        from infermesh.scheduler.kubernetes_workloads import KubernetesWorkloads

        reach = api_client(os.environ["KUBECONFIG"])
        self._core, self._apps = client.CoreV1Api(reach), client.AppsV1Api(reach)
        self._space = f"infermesh-test-workloads-{secrets.token_hex(2)}"
        super().__init__(KubernetesWorkloads(reach, self._space))
        self._core.create_namespace({"metadata": {"name": self._space, "labels": {"infermesh-test": "true"}}})
        containers = [{"name": "idle", "image": "none", "imagePullPolicy": "Never"}]
        spec = {"containers": containers, "nodeSelector": {"infermesh-test": "nowhere"}}
        self._core.create_namespaced_pod(self._space, {"metadata": {"name": POD}, "spec": spec})
        labels = {"app": "workers"}
        template = {"metadata": {"labels": labels}, "spec": spec}
        deployment = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}
        self._apps.create_namespaced_deployment(self._space, {"metadata": {"name": WORKLOAD}, "spec": deployment})

    def cost(self) -> int | None:
        notes = self._core.read_namespaced_pod(POD, self._space).metadata.annotations or {}
        found = notes.get("controller.kubernetes.io/pod-deletion-cost")
        return None if found is None else int(found)

    def change(self, replicas: int) -> None:
        self._apps.patch_namespaced_deployment_scale(WORKLOAD, self._space, {"spec": {"replicas": replicas}})

    def close(self) -> None:
        self._core.delete_namespace(self._space, grace_period_seconds=0)


@pytest.fixture(scope="module")
def real() -> Iterator[RealStage]:
    if not os.environ.get("KUBECONFIG"):
        pytest.skip("KUBECONFIG names no cluster")
    stage = RealStage()
    yield stage
    stage.close()


@pytest.fixture(params=["fake", pytest.param("cluster", marks=pytest.mark.cluster)])
async def stage(request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    if request.param == "fake":
        yield Stage(FakeWorkloads({WORKLOAD: 2}, [POD]))
    else:
        real = request.getfixturevalue("real")
        real.change(2)
        yield real


async def change_to(workloads: Workloads, replicas: int) -> Scale:
    """Sets a number; the controller of a Deployment writes to it, too, so more than one try may be needed."""
    for _ in range(9):
        found = await workloads.scale(WORKLOAD)
        try:
            return await workloads.set_scale(WORKLOAD, Scale(replicas, found.version))
        except Conflict:
            continue
    raise AssertionError("every try met somebody else's change")


async def test_a_number_can_be_read_and_set(stage: Stage) -> None:
    assert (await stage.workloads.scale(WORKLOAD)).replicas == 2
    assert (await change_to(stage.workloads, 5)).replicas == 5
    assert (await stage.workloads.scale(WORKLOAD)).replicas == 5


async def test_a_workload_may_have_no_worker(stage: Stage) -> None:
    assert (await change_to(stage.workloads, 0)).replicas == 0
    assert (await stage.workloads.scale(WORKLOAD)).replicas == 0


async def test_what_was_changed_meanwhile_stays(stage: Stage) -> None:
    found = await stage.workloads.scale(WORKLOAD)
    stage.change(7)
    with pytest.raises(Conflict):
        await stage.workloads.set_scale(WORKLOAD, Scale(1, found.version))
    assert (await stage.workloads.scale(WORKLOAD)).replicas == 7


async def test_a_number_below_0_is_refused(stage: Stage) -> None:
    with pytest.raises(InvalidInput, match="replicas"):
        await change_to(stage.workloads, -1)


async def test_a_workload_that_is_not_there_is_told(stage: Stage) -> None:
    with pytest.raises(NotFound, match="nobody"):
        await stage.workloads.scale("nobody")
    with pytest.raises(NotFound, match="nobody"):
        await stage.workloads.set_scale("nobody", Scale(1, "1"))


async def test_a_cost_can_be_written_again_and_again(stage: Stage) -> None:
    for cost in (3000, 0, -1):
        await stage.workloads.set_deletion_cost(POD, cost)
        assert stage.cost() == cost


async def test_a_cost_of_more_than_32_bits_is_refused(stage: Stage) -> None:
    with pytest.raises(InvalidInput, match="32"):
        await stage.workloads.set_deletion_cost(POD, 2**31)


async def test_a_worker_that_is_no_pod_is_told(stage: Stage) -> None:
    with pytest.raises(NotFound, match="stranger"):
        await stage.workloads.set_deletion_cost("stranger", 1)


async def test_an_api_server_that_does_not_answer_is_no_fault() -> None:
    from kubernetes import client

    from infermesh.scheduler.kubernetes_workloads import KubernetesWorkloads

    reach = client.Configuration()
    with socket.socket() as deaf:  # bound, but it does not listen
        deaf.bind(("127.0.0.1", 0))
        reach.host, reach.retries = "http://{}:{}".format(*deaf.getsockname()), False
        with pytest.raises(NotReady, match="API server: Deployment workers"):
            await KubernetesWorkloads(client.ApiClient(reach), "default").scale(WORKLOAD)


@pytest.mark.cluster
async def test_who_may_not_is_told(real: RealStage) -> None:
    from kubernetes import client

    from infermesh.scheduler.cluster import api_client
    from infermesh.scheduler.kubernetes_workloads import KubernetesWorkloads

    reach = api_client(os.environ["KUBECONFIG"]).configuration
    stranger = client.Configuration(host=reach.host)
    stranger.ssl_ca_cert, stranger.retries = reach.ssl_ca_cert, False
    with pytest.raises(PermissionDenied):
        await KubernetesWorkloads(client.ApiClient(stranger), "default").scale(WORKLOAD)
