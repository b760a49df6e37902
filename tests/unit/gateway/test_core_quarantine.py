"""Queries of death, from the gateway's door to the runner and back, in virtual time."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from random import Random

import pytest
from opentelemetry.trace import NoOpTracer
from prometheus_client import CollectorRegistry

from infermesh.errors import MeshError
from infermesh.gateway.admission import Limits
from infermesh.gateway.calls import Call
from infermesh.gateway.core import Core
from infermesh.v1.scheduler_service_pb2 import DeploymentRoute
from tests.unit.gateway.mortal import DEADLY, MortalStream, MortalWorker, answer, request
from tests.unit.gateway.simulation import SimScheduler, deployed, snapshot
from tests.unit.gateway.virtual import run


class Mesh:
    """Gateways before mortal workers. Routes follow what the workers can do, as a scheduler's would, unless `blind`."""

    def __init__(self, workers: Sequence[MortalWorker], gateways: int = 1, *, blind: bool = False, **limits: float):
        self.workers = workers
        self._scheduler = SimScheduler()
        self._revision = 0
        self._version = "1"
        self.streams: list[MortalStream] = []
        self.metrics = [CollectorRegistry() for _ in range(gateways)]
        self.cores = [self._core(at, Limits(**limits)) for at in range(gateways)]  # type: ignore[arg-type]
        if not blind:
            for worker in workers:
                worker.on_change = lambda _: asyncio.get_running_loop().call_later(0.05, self.publish)

    def _core(self, at: int, limits: Limits) -> Core:
        return Core(
            gateway=f"gw-{at}",
            subscribe=self._scheduler.subscribe,
            registry=self.metrics[at],
            tracer=NoOpTracer(),
            limits=limits,
            rng=Random(at),
            connect=self._connect,
        )

    def _connect(self, address: str) -> MortalStream:
        stream = MortalStream(next(worker for worker in self.workers if worker.address == address))
        self.streams.append(stream)
        return stream

    def publish(self, *more: DeploymentRoute) -> None:
        self._revision += 1
        ready = [worker for worker in self.workers if worker.model.ready]
        route = deployed({self._version: ready})  # type: ignore[dict-item]
        everyone = snapshot(route, *more, workers=list(self.workers), revision=self._revision)  # type: ignore[arg-type]
        self._scheduler.publish(everyone)

    def deploy(self, version: str) -> None:
        """Another version takes the place of this one."""
        self._version = version
        self.publish()

    async def __aenter__(self) -> "Mesh":
        for core in self.cores:
            await core.start()
        self.publish()
        await asyncio.sleep(0.1)
        return self

    async def __aexit__(self, *_: object) -> None:
        for core in self.cores:
            await core.stop()

    @property
    def deaths(self) -> int:
        return sum(worker.deaths for worker in self.workers)

    def infer(self, number: int, id: str = "", *, gateway: int = 0, timeout: float = 20) -> asyncio.Future[bytes]:
        deadline = asyncio.get_running_loop().time() + timeout
        return self.cores[gateway].dispatcher.infer(Call("digits", "", request(number, id), deadline))

    async def outcome(self, number: int, id: str = "", **more: float) -> str:
        """Makes a call and checks its answer; returns `ok` or the reason of its error."""
        try:
            assert answer(await self.infer(number, id, **more)) == (id, number)  # type: ignore[arg-type]
        except MeshError as error:
            return error.reason
        return "ok"


async def traffic(mesh: Mesh, good: Sequence[int], deadly: int, *, callers: int = 64, seed: int = 1) -> Counter[str]:
    """Makes all calls, `callers` at a time in random order, over all gateways; counts what became of which."""
    rng = Random(seed)
    numbers = [*good, *[DEADLY] * deadly]
    rng.shuffle(numbers)
    found: Counter[str] = Counter()
    left = iter(enumerate(numbers))

    async def caller() -> None:
        for at, number in left:
            gateway = rng.randrange(len(mesh.cores))
            found[
                f"{'bad' if number == DEADLY else 'good'} {await mesh.outcome(number, f'c{at}', gateway=gateway)}"
            ] += 1
            await asyncio.sleep(rng.random() * 0.01)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(callers):
            tasks.create_task(caller())
    return found


DISTINCT = [*range(1_000, 3_000)]
ALIKE = [7] * 2_000
WANTED = {"good ok": 2_000, "bad QUERY_OF_DEATH": 20}


@pytest.mark.parametrize("good", [DISTINCT, ALIKE], ids=["distinct", "alike"])
@pytest.mark.parametrize("blind", [False, True], ids=["routes follow", "routes stay"])
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("seed", range(3))
def test_two_deaths_at_most_and_no_good_call_fails(good: list[int], blind: bool, workers: int, seed: int) -> None:
    async def scenario() -> None:
        async with Mesh([MortalWorker(f"w{at}") for at in range(workers)], blind=blind) as mesh:
            assert await traffic(mesh, good, 20, seed=seed) == WANTED
            assert mesh.deaths <= 2
            assert mesh.cores[0].dispatcher.in_flight() == 0

    run(scenario())
