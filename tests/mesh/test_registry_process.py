"""The registry as a process: what it acknowledged survives a kill, uploads stay small in memory, stops are clean."""

import asyncio
import hashlib
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from urllib.request import urlopen

import grpc
import grpc.aio
import pytest
from google.longrunning import operations_pb2
from google.longrunning.operations_pb2_grpc import OperationsStub

from infermesh.errors import ConfigError, InvalidInput, MeshError, NotReady
from infermesh.health.v1 import health_pb2
from infermesh.mesh.channel import connect
from infermesh.mesh.status import from_rpc_error
from infermesh.registry.home import Home
from infermesh.testing.child import Service, ServiceFailed, ServiceSpec
from infermesh.v1 import artifact_service_pb2 as artifacts
from infermesh.v1 import deployment_service_pb2, model_service_pb2, state_service_pb2
from infermesh.v1.artifact_service_pb2_grpc import ArtifactServiceStub
from infermesh.v1.deployment_pb2 import Deployment
from infermesh.v1.deployment_service_pb2_grpc import DeploymentServiceStub
from infermesh.v1.model_service_pb2_grpc import ModelServiceStub
from infermesh.v1.state_service_pb2_grpc import StateServiceStub
from tests.unit.registry.messages import CONTENT, deployment, digest, version

pytestmark = pytest.mark.mesh

MIB = 2**20


class Registry:
    """A registry process on one home, and stubs to talk to it."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        spec = ServiceSpec("registry", "registry", ["--home", str(folder / "home"), *arguments])
        self.service = Service(spec, folder)
        self._channel: grpc.aio.Channel | None = None

    async def start(self) -> "Registry":
        """Starts the process, and connects once it is ready."""
        self.service.start()
        await asyncio.to_thread(self.service.wait_ready, time.monotonic() + 60)
        self._channel = connect(self.service.addresses["grpc"])
        self.models = ModelServiceStub(self._channel)
        self.artifacts = ArtifactServiceStub(self._channel)
        self.deployments = DeploymentServiceStub(self._channel)
        self.state = StateServiceStub(self._channel)
        self.operations = OperationsStub(self._channel)
        return self

    async def stop(self, number: int) -> int | None:
        """Ends the process by a signal and returns its exit code."""
        self.service.send(number)
        assert await asyncio.to_thread(self.service.wait, time.monotonic() + 30)
        if self._channel is not None:
            await self._channel.close()
        return self.service.returncode

    async def upload(self, data: bytes) -> str:
        """Stores a small file and returns its digest."""
        upload = await self.artifacts.StartUpload(
            artifacts.StartUploadRequest(digest=digest(data), size_bytes=len(data))
        )
        sent = await self.artifacts.UploadArtifact(iter([artifacts.UploadArtifactRequest(name=upload.name, data=data)]))
        assert sent.complete
        return digest(data)

    async def push(self) -> str:
        """Stores a version of `digits` and returns its name."""
        await self.upload(CONTENT)
        request = model_service_pb2.CreateModelVersionRequest(
            parent="models/digits", version=version(), create_model=True
        )
        return str((await self.models.CreateModelVersion(request)).name)

    def memory(self) -> int:
        """Returns the most resident memory that the process ever had, in bytes."""
        status = Path(f"/proc/{self.service.pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


Start = Callable[..., Awaitable[Registry]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Starts registries with more arguments, and kills them in the end."""
    started: list[Registry] = []

    async def start(*arguments: str) -> Registry:
        started.append(Registry(tmp_path, *arguments))
        return await started[-1].start()

    yield start
    for registry in started:
        await registry.stop(signal.SIGKILL)


@pytest.fixture
async def registry(start: Start) -> Registry:
    """A running registry on an empty home."""
    return await start()


async def error_of(call: grpc.aio.Call) -> MeshError:
    """Returns the error that a call ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc_error(caught.value)


async def kill_and_restart(registry: Registry) -> None:
    """Kills the process without a warning and starts another on the same home."""
    assert await registry.stop(signal.SIGKILL) == -signal.SIGKILL
    await registry.start()


async def test_what_was_acknowledged_survives_a_kill(registry: Registry) -> None:
    name = await registry.push()
    await kill_and_restart(registry)
    got = await registry.models.GetModelVersion(model_service_pb2.GetModelVersionRequest(name=name))
    assert got.samples == version().samples
    await registry.models.SetAlias(
        model_service_pb2.SetAliasRequest(name="models/digits/aliases/prod", version=name, expected_version="none")
    )
    await kill_and_restart(registry)
    alias = await registry.models.GetAlias(model_service_pb2.GetAliasRequest(name="models/digits/aliases/prod"))
    assert alias.version == name
    request = deployment_service_pb2.CreateDeploymentRequest(deployment_id="d", deployment=deployment(prod=1))
    operation = await registry.deployments.CreateDeployment(request)
    await kill_and_restart(registry)
    snapshot = await anext(aiter(registry.state.WatchDesired(state_service_pb2.WatchDesiredRequest())))
    assert [d.deployment.name for d in snapshot.deployments] == ["deployments/d"]
    report = state_service_pb2.DeploymentReport(name="deployments/d", generation=1, state=Deployment.ACTIVE)
    await registry.state.ReportDeployments(state_service_pb2.ReportDeploymentsRequest(reports=[report]))
    await kill_and_restart(registry)
    done = await registry.operations.GetOperation(operations_pb2.GetOperationRequest(name=operation.name))
    assert done.HasField("response")
    pieces = registry.artifacts.DownloadArtifact(artifacts.DownloadArtifactRequest(digest=digest(CONTENT)))
    assert b"".join([piece.data async for piece in pieces]) == CONTENT


def block(index: int) -> bytes:
    """Returns the MiB number `index` of a large file, without two alike."""
    return index.to_bytes(8, "little") * (MIB // 8)


async def test_a_large_upload_takes_little_memory_and_goes_on_after_a_cut_and_a_kill(registry: Registry) -> None:
    blocks, first_cut = 288, 150
    hasher = hashlib.sha256()
    for index in range(blocks):
        hasher.update(block(index))
    name = f"sha256:{hasher.hexdigest()}"
    request = artifacts.StartUploadRequest(digest=name, size_bytes=blocks * MIB)
    upload = await registry.artifacts.StartUpload(request)
    before = registry.memory()

    call = registry.artifacts.UploadArtifact()
    for index in range(first_cut):
        data = artifacts.UploadArtifactRequest(name=upload.name, offset=index * MIB, data=block(index))
        await call.write(data)
    call.cancel()  # a cut: what is on the way is lost, what has arrived stays
    used = registry.memory() - before
    await kill_and_restart(registry)

    upload = await registry.artifacts.GetUpload(artifacts.GetUploadRequest(name=upload.name))
    assert 0 < upload.received_bytes <= first_cut * MIB
    before = registry.memory()

    async def rest() -> AsyncIterator[artifacts.UploadArtifactRequest]:
        for index in range(upload.received_bytes // MIB, blocks):
            yield artifacts.UploadArtifactRequest(name=upload.name, offset=index * MIB, data=block(index))

    done = await registry.artifacts.UploadArtifact(rest())
    assert done.complete
    assert used < 100 * MIB
    assert registry.memory() - before < 100 * MIB
    again = await registry.artifacts.StartUpload(request)
    assert (again.complete, again.received_bytes) == (True, blocks * MIB)
    hasher = hashlib.sha256()
    async for piece in registry.artifacts.DownloadArtifact(artifacts.DownloadArtifactRequest(digest=name)):
        hasher.update(piece.data)
    assert f"sha256:{hasher.hexdigest()}" == name
    assert registry.memory() - before < 100 * MIB


async def test_wrong_bytes_are_refused_with_both_digests(registry: Registry) -> None:
    upload = await registry.artifacts.StartUpload(artifacts.StartUploadRequest(digest=digest(b"right"), size_bytes=5))
    message = artifacts.UploadArtifactRequest(name=upload.name, data=b"wrong")
    error = await error_of(registry.artifacts.UploadArtifact(iter([message])))
    assert isinstance(error, InvalidInput)
    assert (error.metadata["expected"], error.metadata["got"]) == (digest(b"right"), digest(b"wrong"))


async def test_callers_with_the_same_file_at_the_same_time_all_succeed(registry: Registry) -> None:
    data = block(1)
    assert await asyncio.gather(*(registry.upload(data) for _ in range(4))) == [digest(data)] * 4
    address = f"http://{registry.service.addresses['metrics']}/metrics"
    shown = await asyncio.to_thread(lambda: urlopen(address).read().decode())
    assert 'infermesh_uploads_total{result="complete"}' in shown
    assert "infermesh_rpc_seconds_bucket" in shown


async def test_a_watcher_hears_of_every_change_and_a_waiter_of_the_end(registry: Registry) -> None:
    await registry.push()
    watch = aiter(registry.state.WatchDesired(state_service_pb2.WatchDesiredRequest()))
    first = await anext(watch)
    request = deployment_service_pb2.CreateDeploymentRequest(deployment_id="d", deployment=deployment())
    operation = await registry.deployments.CreateDeployment(request)
    second = await anext(watch)
    assert second.revision > first.revision
    waiter = registry.operations.WaitOperation(operations_pb2.WaitOperationRequest(name=operation.name))
    report = state_service_pb2.DeploymentReport(name="deployments/d", generation=1, state=Deployment.ACTIVE)
    await registry.state.ReportDeployments(state_service_pb2.ReportDeploymentsRequest(reports=[report]))
    assert (await waiter).HasField("response")


async def test_sigterm_says_so_first_ends_watches_and_exits_cleanly(start: Start) -> None:
    registry = await start("--drain-timeout", "600", "--drain-lame-duck", "0.2")
    async with connect(registry.service.addresses["health"]) as channel:
        health = channel.unary_stream(
            "/grpc.health.v1.Health/Watch",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        statuses = aiter(health(health_pb2.HealthCheckRequest()))
        assert (await anext(statuses)).status == health_pb2.HealthCheckResponse.SERVING
        watch = aiter(registry.state.WatchDesired(state_service_pb2.WatchDesiredRequest()))
        await anext(watch)
        registry.service.send(signal.SIGTERM)
        assert (await anext(statuses)).status == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await anext(watch)
        assert isinstance(from_rpc_error(caught.value), NotReady)
    assert await registry.stop(0) == 0  # in far less than the drain's 600 s: nothing holds it up


async def test_a_home_belongs_to_one_registry(registry: Registry, tmp_path: Path) -> None:
    second = Service(ServiceSpec("second", "registry", ["--home", str(tmp_path / "home")]), tmp_path)
    second.start()
    with pytest.raises(ServiceFailed) as caught:
        await asyncio.to_thread(second.wait_ready, time.monotonic() + 60)
    assert second.returncode == 2
    lines = caught.value.log_tail.splitlines()[1:]
    assert [line for line in lines if "in use by a registry" in line and str(registry.service.pid) in line] == lines[
        -1:
    ]
    assert "Traceback" not in caught.value.log_tail
    await registry.push()  # the first goes on


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Path]:
    """A home that is in use."""
    with Home(str(tmp_path / "home")):
        yield tmp_path / "home"


def test_a_lock_goes_with_its_holder(held: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="in use"), Home(str(held)):
        pass
    other = str(tmp_path / "other")
    for _ in range(2):
        with Home(other):
            pass
