"""From messages and back."""

import pytest

from infermesh.errors import InvalidInput
from infermesh.scheduler import memory
from infermesh.scheduler.convert import assignment_of, desired_of, remember, worker_of
from infermesh.scheduler.model import Assigned, Desired, State, TrafficTarget
from infermesh.v1.deployment_pb2 import Batching, Deployment
from infermesh.v1.model_pb2 import ModelFile, ModelVersion
from infermesh.v1.state_service_pb2 import DesiredDeployment, DesiredState, ResolvedTarget
from infermesh.v1.worker_pb2 import Assignment, Device, HeldVersion, Worker
from tests.unit.scheduler.build import deployment, desired, version

FILES = [ModelFile(path="a", size_bytes=100 << 20), ModelFile(path="b", size_bytes=20 << 20)]


def test_a_deployment() -> None:
    message = DesiredDeployment(
        deployment=Deployment(name="deployments/d", model="models/m", replicas=3, device="cuda", generation=7),
        targets=[ResolvedTarget(version="2", weight=9)],
        versions=[
            ModelVersion(name="models/m/versions/2", digest="sha256:2", backend="onnx", device="cpu", memory_bytes=5)
        ],
        aliases={"prod": "2"},
    )
    got = desired_of(DesiredState(revision=4, deployments=[message]))
    (only,) = got.deployments
    assert got.revision == 4
    assert (only.id, only.model, only.replicas, only.device, only.generation) == ("d", "m", 3, "cuda", 7)
    assert only.targets == (TrafficTarget("2", 9),)
    assert only.aliases == {"prod": "2"}
    (found,) = only.versions.values()
    assert (found.number, found.digest, found.backend) == ("2", "sha256:2", "onnx")
    assert (found.device, found.memory) == ("cpu", 5)


def test_no_replicas_means_one() -> None:
    message = DesiredState(deployments=[DesiredDeployment(deployment=Deployment(name="deployments/d"))])
    assert desired_of(message).deployments[0].replicas == 1


def test_a_deployment_on_all_workers_of_a_pool() -> None:
    message = DesiredState(deployments=[DesiredDeployment(deployment=Deployment(pool="x", all_workers=True))])
    (only,) = desired_of(message).deployments
    assert (only.pool, only.all_workers) == ("x", True)


def test_a_workers_label_names_its_pool() -> None:
    assert worker_of(Worker(name="workers/w1", labels={"pool": "x", "zone": "a"})).pool == "x"
    assert worker_of(Worker(name="workers/w1")).pool == ""


def test_an_alias_and_a_number_of_the_same_version_are_one_target_with_both_shares() -> None:
    targets = [ResolvedTarget(version=v, weight=w) for v, w in (("2", 90), ("1", 5), ("2", 5))]
    message = DesiredState(deployments=[DesiredDeployment(targets=targets)])
    assert desired_of(message).deployments[0].targets == (TrafficTarget("2", 95), TrafficTarget("1", 5))


def test_memory_is_estimated_from_the_files_where_it_is_not_declared() -> None:
    versions = [
        ModelVersion(name="models/m/versions/1", files=FILES),
        ModelVersion(name="models/m/versions/2", files=FILES, memory_bytes=1),
    ]
    message = DesiredState(deployments=[DesiredDeployment(versions=versions)])
    sizes = {number: item.memory for number, item in desired_of(message).deployments[0].versions.items()}
    assert sizes == {"1": memory.BASE + (150 << 20), "2": 1}


def test_a_version_that_is_no_number_is_left_out() -> None:
    message = DesiredState(deployments=[DesiredDeployment(versions=[ModelVersion(name="models/m/versions/x")])])
    assert desired_of(message).deployments[0].versions == {}


def test_a_worker() -> None:
    message = Worker(
        name="workers/w1",
        address="host:1",
        incarnation="i",
        device=Device(kind="cuda", memory_total_bytes=80, memory_free_bytes=70),
        held=[
            HeldVersion(
                deployment="d",
                version="2",
                digest="sha256:2",
                state=HeldVersion.FAILED,
                reason="bad",
                memory_bytes=3,
                load_seconds=1.5,
            )
        ],
        draining=True,
        weight=2.5,
        backends=["torch", "onnx"],
    )
    got = worker_of(message)
    assert (got.id, got.address, got.incarnation, got.device, got.memory) == ("w1", "host:1", "i", "cuda", 80)
    assert (got.draining, got.weight, got.backends) == (True, 2.5, frozenset({"torch", "onnx"}))
    (only,) = got.held
    assert (only.target, only.digest, only.state) == ("d/2", "sha256:2", State.FAILED)
    assert (only.reason, only.memory, only.load_seconds) == ("bad", 3, 1.5)


def test_free_memory_alone_is_no_news() -> None:
    """It changes with every heartbeat and must not make a new plan each time."""
    before, after = (Worker(name="workers/w", device=Device(memory_free_bytes=free)) for free in (1, 2))
    assert worker_of(before) == worker_of(after)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_a_weight_that_is_none_means_one(weight: float) -> None:
    assert worker_of(Worker(name="workers/w", weight=weight)).weight == 1.0


def test_a_state_of_a_newer_worker_takes_memory_and_serves_nothing() -> None:
    message = Worker(name="workers/w", held=[HeldVersion(deployment="d", version="1", state=17)])  # type: ignore[arg-type]
    assert worker_of(message).held[0].state is State.LOADING


@pytest.mark.parametrize("name", ["", "w1", "workers/", "workers/A B", "workers/a/b", "models/w1"])
def test_a_malformed_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput):
        worker_of(Worker(name=name))


def test_an_assignment() -> None:
    spec = Deployment(batching=Batching(max_batch_size=4))
    (wanted,) = desired_of(
        DesiredState(
            deployments=[
                DesiredDeployment(deployment=Deployment(name="deployments/d", model="models/m", batching=spec.batching))
            ]
        )
    ).deployments
    assert assignment_of(Assigned("d", "2", "sha256:2"), wanted) == Assignment(
        deployment="d", version="models/m/versions/2", digest="sha256:2", batching=Batching(max_batch_size=4)
    )


class TestRemember:
    """The registry lists the newest versions only; an older one that still serves must not become unknown."""

    OLD = desired(deployment(targets=["1"], versions=[version("1")]))
    NEW = deployment(targets=["20"], versions=[version("20")])

    def test_a_former_target_is_remembered(self) -> None:
        got = remember(self.OLD, desired(self.NEW))
        assert set(got.deployments[0].versions) == {"1", "20"}

    def test_through_further_snapshots(self) -> None:
        got = remember(remember(self.OLD, desired(self.NEW)), desired(self.NEW))
        assert set(got.deployments[0].versions) == {"1", "20"}

    def test_what_was_listed_but_no_target_is_not(self) -> None:
        listed = desired(deployment(targets=["1"], versions=[version("1"), version("2")]))
        assert set(remember(listed, desired(self.NEW)).deployments[0].versions) == {"1", "20"}

    def test_not_for_another_model(self) -> None:
        other = deployment(targets=["20"], versions=[version("20")], model="other")
        assert set(remember(self.OLD, desired(other)).deployments[0].versions) == {"20"}

    def test_not_without_bounds(self) -> None:
        state = Desired()
        for number in range(1, 30):
            state = remember(state, desired(deployment(targets=[str(number)], versions=[version(str(number))])))
        assert sorted(map(int, state.deployments[0].versions)) == list(range(21, 30))

    def test_what_the_registry_says_comes_first(self) -> None:
        changed = deployment(targets=["20"], versions=[version("20"), version("1", memory=5)])
        assert remember(self.OLD, desired(changed)).deployments[0].versions["1"].memory == 5


def test_sizes_for_people() -> None:
    sizes = (0, 1023, 3 << 20, (31 << 30) // 10)
    assert [memory.show(size) for size in sizes] == ["0 B", "1023 B", "3.0 MiB", "3.1 GiB"]
