"""The scheduler as a process: a worker and a registry that the test plays, through restarts of either."""

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from infermesh.errors import InvalidInput
from infermesh.health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from infermesh.mesh import channel, server, status
from infermesh.testing.child import Service, ServiceSpec
from infermesh.v1 import scheduler_service_pb2 as pb
from infermesh.v1.deployment_pb2 import Deployment, TrafficTarget
from infermesh.v1.model_pb2 import ModelVersion
from infermesh.v1.scheduler_service_pb2_grpc import SchedulerServiceStub
from infermesh.v1.state_service_pb2 import (
    DesiredDeployment,
    DesiredState,
    ReportDeploymentsResponse,
    ResolvedTarget,
)
from infermesh.v1.state_service_pb2_grpc import StateServiceServicer, add_StateServiceServicer_to_server
from infermesh.v1.worker_pb2 import Device, HeldVersion, Worker

pytestmark = pytest.mark.mesh
INTERVAL = 0.3


def wanted(version: str, generation: int = 1) -> DesiredState:
    numbers = ["2", "1"]
    return DesiredState(
        revision=generation,
        deployments=[
            DesiredDeployment(
                deployment=Deployment(
                    name="deployments/digits",
                    model="models/digits",
                    traffic=[TrafficTarget(version=version, weight=1)],
                    generation=generation,
                ),
                targets=[ResolvedTarget(version=version, weight=1)],
                versions=[
                    ModelVersion(name=f"models/digits/versions/{number}", digest=f"sha256:{number}", backend="torch")
                    for number in numbers
                ],
                aliases={"prod": version},
            )
        ],
    )


class Registry(StateServiceServicer):
    """Says what is wanted and remembers what it is told."""

    def __init__(self) -> None:
        self.state = wanted("1")
        self.reports: dict[int, Any] = {}
        self.changed = asyncio.Event()

    async def WatchDesired(self, request: Any, context: Any) -> AsyncIterator[DesiredState]:
        while True:
            changed = self.changed
            yield self.state
            await changed.wait()

    async def ReportDeployments(self, request: Any, context: Any) -> ReportDeploymentsResponse:
        for report in request.reports:
            self.reports[report.generation] = report.state
        return ReportDeploymentsResponse()

    def want(self, state: DesiredState) -> None:
        self.state = state
        self.changed.set()
        self.changed = asyncio.Event()


@contextlib.asynccontextmanager
async def serving(registry: Registry, listen: str) -> AsyncIterator[str]:
    grpc_server = server.create_server()
    add_StateServiceServicer_to_server(registry, grpc_server)  # type: ignore[no-untyped-call]
    try:
        yield await server.bind(grpc_server, listen)
    finally:
        await grpc_server.stop(0)


class PlayedWorker:
    """Heartbeats and does at once what it is told; `history` has every authoritative list of targets that differed."""

    def __init__(self, address: str, name: str = "w1") -> None:
        self._stub = SchedulerServiceStub(channel.connect(address))  # type: ignore[no-untyped-call]
        self.message = Worker(
            name=f"workers/{name}",
            address="127.0.0.1:9",
            incarnation=f"{name}-1",
            device=Device(kind="cpu", memory_total_bytes=8 << 30),
            backends=["torch"],
        )
        self.history: list[list[str]] = []
        self.undecided = 0
        self.answered = 0

    def holds(self) -> dict[str, str]:
        return {held.version: HeldVersion.State.Name(held.state) for held in self.message.held}

    async def beat(self) -> None:
        while True:
            with contextlib.suppress(grpc.aio.AioRpcError):
                response = await self._stub.Heartbeat(pb.HeartbeatRequest(worker=self.message), timeout=2)
                self.answered += 1
                self._obey(response)
            await asyncio.sleep(INTERVAL / 2)

    def _obey(self, response: pb.HeartbeatResponse) -> None:
        if not response.authoritative:
            self.undecided += 1
            return
        targets = sorted(item.version for item in response.assignments)
        if not self.history or self.history[-1] != targets:
            self.history.append(targets)
        states = self.holds()
        del self.message.held[:]
        for item in response.assignments:
            version = item.version.rpartition("/")[2]
            # what was loading at the last heartbeat is ready by now
            state = HeldVersion.READY if version in states else HeldVersion.LOADING
            self.message.held.add(deployment=item.deployment, version=version, digest=item.digest, state=state)


@contextlib.asynccontextmanager
async def limit(what: str) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(30):
            yield
    except TimeoutError:
        pytest.fail(f"did not happen: {what}")


async def until(condition: Callable[[], bool], what: str) -> None:
    async with limit(what):
        while not condition():  # noqa: ASYNC110  # what we wait for happens in another process
            await asyncio.sleep(0.02)


@contextlib.contextmanager
def playing(*parts: Awaitable[None]) -> Any:
    tasks = [asyncio.ensure_future(part) for part in parts]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()


async def start(service: Service) -> None:
    service.start()
    await asyncio.to_thread(service.wait_ready, time.monotonic() + 30)


@pytest.fixture
async def scheduler(tmp_path: Path, registry_address: str) -> AsyncIterator[Service]:
    arguments = ["--registry", registry_address, "--heartbeat-interval", str(INTERVAL)]
    service = Service(ServiceSpec("scheduler", "scheduler", arguments), tmp_path)
    await start(service)
    try:
        yield service
    finally:
        service.kill_group()


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
async def registry_address(registry: Registry) -> AsyncIterator[str]:
    async with serving(registry, "127.0.0.1:0") as address:
        yield address


async def routed(stub: Any, versions: list[str]) -> pb.RouteSnapshot:
    """Waits for routes that send the deployment's calls to `versions`."""
    async with limit(f"calls go to {versions}"):
        async for snapshot in stub.WatchRoutes(pb.WatchRoutesRequest(gateway="test"), wait_for_ready=True):
            if [[share.version for share in route.traffic] for route in snapshot.deployments] == [versions]:
                return snapshot
    raise AssertionError("the stream ended")


async def test_a_restart_loses_nothing_and_moves_nothing(scheduler: Service, registry: Registry) -> None:
    address = scheduler.addresses["grpc"]
    worker = PlayedWorker(address)
    async with channel.connect(address) as dialled:
        stub = SchedulerServiceStub(dialled)  # type: ignore[no-untyped-call]
        with playing(worker.beat()):
            before = await routed(stub, ["1"])
            await until(lambda: registry.reports.get(1) == Deployment.ACTIVE, "the deployment becomes active")
            scheduler.send(signal.SIGKILL)
            assert await asyncio.to_thread(scheduler.wait, time.monotonic() + 10)
            worker.undecided = 0
            await start(scheduler)
            after = await routed(stub, ["1"])
            assert worker.undecided >= 3, "a scheduler that has just started must not decide"
            registry.want(wanted("2", generation=2))
            await until(lambda: registry.reports.get(2) == Deployment.ACTIVE, "the new version becomes active")
            await until(lambda: worker.holds() == {"2": "READY"}, "the old version goes")
    assert after.epoch != before.epoch
    assert after.deployments == before.deployments
    names = [[f"models/digits/versions/{number}" for number in numbers] for numbers in (["1"], ["1", "2"], ["2"])]
    assert worker.history == [[], *names] or worker.history == names


async def test_it_goes_on_while_the_registry_is_away_and_hears_it_again(tmp_path: Path) -> None:
    registry = Registry()
    async with serving(registry, "127.0.0.1:0") as registry_address:
        arguments = ["--registry", registry_address, "--heartbeat-interval", str(INTERVAL)]
        service = Service(ServiceSpec("scheduler", "scheduler", arguments), tmp_path)
        await start(service)
        first, second = PlayedWorker(service.addresses["grpc"]), PlayedWorker(service.addresses["grpc"], "w2")
        try:
            with playing(first.beat()):
                await until(lambda: first.holds() == {"1": "READY"}, "the version is loaded")
        except BaseException:
            service.kill_group()
            raise
    try:  # the registry is gone, and so is the first worker: its work moves all the same
        with playing(second.beat()):
            await until(lambda: second.holds() == {"1": "READY"}, "the version moves")
            registry.want(wanted("2", generation=2))
            async with serving(registry, registry_address):
                await until(lambda: second.holds() == {"2": "READY"}, "the change is heard of")
                await until(lambda: registry.reports.get(2) == Deployment.ACTIVE, "the registry is told")
    finally:
        service.kill_group()


async def test_without_a_registry_it_serves_but_decides_nothing(tmp_path: Path) -> None:
    arguments = ["--registry", "127.0.0.1:1", "--heartbeat-interval", str(INTERVAL)]
    service = Service(ServiceSpec("scheduler", "scheduler", arguments), tmp_path)
    await start(service)
    worker = PlayedWorker(service.addresses["grpc"])
    try:
        with playing(worker.beat()):
            await until(lambda: worker.answered > 8, "heartbeats are answered")
        assert worker.undecided == worker.answered
    finally:
        service.kill_group()


async def test_sigterm_ends_it_at_once_though_a_gateway_watches(scheduler: Service) -> None:
    async with (
        channel.connect(scheduler.addresses["grpc"]) as dialled,
        channel.connect(scheduler.addresses["health"]) as other,
    ):
        stub = SchedulerServiceStub(dialled)  # type: ignore[no-untyped-call]
        watch = stub.WatchRoutes(pb.WatchRoutesRequest(gateway="test"))
        await watch.read()  # nothing is deployed on nobody, yet the first snapshot comes
        check = other.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=HealthCheckRequest.SerializeToString,
            response_deserializer=HealthCheckResponse.FromString,
        )
        assert (await check(HealthCheckRequest())).status == HealthCheckResponse.SERVING
        scheduler.send(signal.SIGTERM)
        # far sooner than the 30 s that calls under way are given
        assert await asyncio.to_thread(scheduler.wait, time.monotonic() + 15)
    assert scheduler.returncode == 0, scheduler.tail()


async def test_errors_come_as_typed_statuses(scheduler: Service) -> None:
    async with channel.connect(scheduler.addresses["grpc"]) as dialled:
        stub = SchedulerServiceStub(dialled)  # type: ignore[no-untyped-call]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Heartbeat(pb.HeartbeatRequest(worker=Worker(name="nobody")))
        with pytest.raises(grpc.aio.AioRpcError) as negative:
            await stub.ListWorkers(pb.ListWorkersRequest(page_size=-1))
    assert isinstance(status.from_rpc_error(caught.value), InvalidInput)
    assert isinstance(status.from_rpc_error(negative.value), InvalidInput)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--placement", "dice"], "placement policy: expected one of binpack, spread, got 'dice'"),
        (["--heartbeat-interval", "0"], "heartbeat_interval"),
        (["--registry", "nowhere"], "registry"),
        (["--colour", "red"], "--colour"),
    ],
)
async def test_a_bad_setting_ends_it_with_one_line(tmp_path: Path, arguments: list[str], said: str) -> None:
    service = Service(ServiceSpec("scheduler", "scheduler", arguments), tmp_path)
    service.start()
    assert await asyncio.to_thread(service.wait, time.monotonic() + 30)
    assert service.returncode == 2
    lines = service.log.read_text().splitlines()
    assert len(lines) == 1
    assert said in lines[0]
