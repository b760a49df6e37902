"""Queries of death, from the gateway's door to the runner and back, in virtual time."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from random import Random

import pytest
from opentelemetry.trace import NoOpTracer
from prometheus_client import CollectorRegistry

from infermesh.errors import MeshError, QueryOfDeath
from infermesh.gateway.admission import Limits
from infermesh.gateway.calls import Call
from infermesh.gateway.core import Core
from infermesh.mesh.fingerprint import fingerprint
from infermesh.v1.scheduler_service_pb2 import DeploymentRoute
from infermesh.v1.worker_service_pb2 import ResultBundle, Suspicion, WorkItem
from tests.unit.gateway.mortal import DEADLY, MortalStream, MortalWorker, answer, request
from tests.unit.gateway.simulation import SimMesh, SimScheduler, SimWorker, deployed, settle, snapshot
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


CALLS = 400
DISTINCT = [*range(1_000, 1_000 + CALLS)]
ALIKE = [7] * CALLS
WANTED = {"good ok": CALLS, "bad QUERY_OF_DEATH": 20}


@pytest.mark.parametrize("good", [DISTINCT, ALIKE], ids=["distinct", "alike"])
@pytest.mark.parametrize("blind", [False, True], ids=["routes follow", "routes stay"])
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("seed", range(2))
def test_two_deaths_at_most_and_no_good_call_fails(good: list[int], blind: bool, workers: int, seed: int) -> None:
    async def scenario() -> None:
        async with Mesh([MortalWorker(f"w{at}") for at in range(workers)], blind=blind) as mesh:
            assert await traffic(mesh, good, 20, seed=seed) == WANTED
            assert mesh.deaths <= 2
            assert mesh.cores[0].dispatcher.in_flight() == 0

    run(scenario())


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_two_gateways_hear_of_each_others_suspects(workers: int) -> None:
    async def scenario() -> None:
        async with Mesh([MortalWorker(f"w{at}") for at in range(workers)], gateways=2) as mesh:
            assert await traffic(mesh, DISTINCT, 20) == WANTED
            assert mesh.deaths <= 2

    run(scenario())


def test_neither_attempts_nor_the_retry_budget_count_calls_out_that_were_with_a_deadly_one() -> None:
    async def scenario() -> None:
        limits = {"max_attempts": 1, "retry_budget": 0.0, "retry_floor": 0.0, "retry_reserve": 1}
        async with Mesh([MortalWorker("w")], **limits) as mesh:
            assert await traffic(mesh, DISTINCT, 20) == WANTED

    run(scenario())


@pytest.mark.parametrize("good", [DISTINCT, ALIKE], ids=["distinct", "alike"])
def test_runners_that_are_killed_from_outside_cost_no_request_its_name(good: list[int]) -> None:
    async def scenario() -> None:
        workers = [MortalWorker("w1"), MortalWorker("w2")]
        async with Mesh(workers) as mesh:
            for worker in workers:
                asyncio.get_running_loop().call_later(0.05, worker.runner.die, "killed by SIGKILL")
            assert await traffic(mesh, good, 0) == {"good ok": CALLS}
            assert mesh.deaths == 2
            assert [core.dispatcher.in_flight() for core in mesh.cores] == [0]
            assert quarantined(mesh) == 0

    run(scenario())


def quarantined(mesh: Mesh, gateway: int = 0) -> float:
    labels = {"model": "digits", "version": "1"}
    return mesh.metrics[gateway].get_sample_value("infermesh_inference_quarantined", labels) or 0.0


def test_a_quarantine_outlives_the_worker_and_ends_with_the_version() -> None:
    async def scenario() -> None:
        async with Mesh([MortalWorker("w")]) as mesh:
            assert await mesh.outcome(DEADLY) == "QUERY_OF_DEATH"
            assert (mesh.deaths, quarantined(mesh)) == (2, 1)
            mesh.streams[-1].cut()
            await asyncio.sleep(3)
            assert await mesh.outcome(DEADLY) == "QUERY_OF_DEATH"
            assert mesh.deaths == 2
            mesh.deploy("2")
            await settle()
            mesh.deploy("1")
            await asyncio.sleep(1)
            mesh.workers[0].model.suspicion._quarantined.clear()  # the version was away: so was its holding
            mesh.workers[0].model.suspicion._update()
            await asyncio.sleep(1)
            assert await mesh.outcome(DEADLY) == "QUERY_OF_DEATH"
            assert mesh.deaths == 4, "it was tried again"

    run(scenario())


def test_a_gateway_that_comes_later_hears_what_is_quarantined() -> None:
    async def scenario() -> None:
        worker = MortalWorker("w")
        async with Mesh([worker]) as mesh:
            assert await mesh.outcome(DEADLY) == "QUERY_OF_DEATH"
        async with Mesh([worker]) as later:
            await asyncio.sleep(2)
            assert quarantined(later) == 1
            assert await later.outcome(DEADLY) == "QUERY_OF_DEATH"
            assert later.deaths == 2

    run(scenario())


def test_a_suspect_whose_deadline_is_near_is_tried_elsewhere() -> None:
    async def scenario() -> None:
        workers = [MortalWorker("w1", restart=60), MortalWorker("w2", restart=60)]
        async with Mesh(workers) as mesh:
            calls = [asyncio.create_task(mesh.outcome(at, timeout=1.5)) for at in range(8)]
            await asyncio.sleep(0.002)
            workers[0].runner.die("exit status 1")
            assert await asyncio.gather(*calls) == ["ok"] * 8

    run(scenario())


def test_what_everybody_asks_does_not_wait_for_the_worker_that_died() -> None:
    async def scenario() -> None:
        workers = [MortalWorker("w1", restart=60), MortalWorker("w2")]
        async with Mesh(workers) as mesh:
            asyncio.get_running_loop().call_later(0.05, workers[0].runner.die, "exit status 1")
            began = asyncio.get_running_loop().time()
            assert await traffic(mesh, ALIKE, 0) == {"good ok": CALLS}
            assert asyncio.get_running_loop().time() - began < 1.5

    run(scenario())


def test_a_suspect_is_tried_elsewhere_when_its_worker_does_not_come_back_soon() -> None:
    async def scenario() -> None:
        workers = [MortalWorker("w1", restart=60), MortalWorker("w2")]
        async with Mesh(workers) as mesh:
            calls = [asyncio.create_task(mesh.outcome(at)) for at in range(8)]
            await asyncio.sleep(0.002)
            workers[0].runner.die("exit status 1")
            began = asyncio.get_running_loop().time()
            assert await asyncio.gather(*calls) == ["ok"] * 8
            assert 1.9 < asyncio.get_running_loop().time() - began < 2.5

    run(scenario())


def test_a_call_that_is_held_can_be_cancelled_and_another_is_tried_in_its_place() -> None:
    async def scenario() -> None:
        async with Mesh([MortalWorker("w")]) as mesh:
            calls = [mesh.infer(DEADLY, str(at)) for at in range(3)]
            await asyncio.sleep(0.5)
            assert mesh.deaths == 1
            calls[0].cancel()
            calls[1].cancel()
            with pytest.raises(QueryOfDeath):
                await calls[2]
            assert (mesh.deaths, mesh.cores[0].dispatcher.in_flight()) == (2, 0)

    run(scenario())


def test_a_call_that_is_held_keeps_its_deadline() -> None:
    async def scenario() -> None:
        async with Mesh([MortalWorker("w", restart=60)], hold=100.0) as mesh:
            assert await mesh.outcome(DEADLY, timeout=2) == "DEADLINE_EXCEEDED"
            assert mesh.cores[0].dispatcher.in_flight() == 0

    run(scenario())


def test_a_worker_that_is_lost_as_a_whole_accuses_nobody() -> None:
    async def scenario() -> None:
        async with Mesh([MortalWorker("w1"), MortalWorker("w2")]) as mesh:
            calls = [asyncio.create_task(mesh.outcome(at)) for at in range(8)]
            await asyncio.sleep(0.001)
            mesh.streams[0].cut()
            assert await asyncio.gather(*calls) == ["ok"] * 8
            assert (mesh.deaths, quarantined(mesh)) == (0, 0)

    run(scenario())


@pytest.mark.parametrize(("before", "reason"), [(0, "QUERY_OF_DEATH"), (1, "RUNNER_DIED")])
def test_a_stream_that_has_begun_is_cut_and_one_that_has_not_is_refused(before: int, reason: str) -> None:
    async def scenario() -> None:
        left = [before]

        def outcome(_: WorkItem) -> tuple[MeshError, bool] | None:
            left[0] -= 1
            return None if left[0] >= 0 else (QueryOfDeath.of("digits", "1"), False)

        worker = SimWorker("w", {"digits/1": 8}, outcome=outcome)
        async with SimMesh(worker) as mesh:
            await mesh.route(deployed({"1": [worker]}))
            stream = mesh.core.dispatcher.stream(Call("digits", "", b"x"))
            for _ in range(before):
                await anext(stream)
            with pytest.raises(MeshError) as caught:
                await anext(stream)
            assert caught.value.reason == reason

    run(scenario())


def test_calls_at_the_worker_that_accuses_are_left_to_it_and_counted_once() -> None:
    async def scenario() -> None:
        accuser, other = (
            SimWorker(name, {"digits/1": 8}, seconds=1, outcome=lambda _: (QueryOfDeath.of("digits", "1"), False))
            for name in ("accuser", "other")
        )
        async with SimMesh(accuser, other) as mesh:
            await mesh.route(deployed({"1": [accuser, other]}))
            calls = [mesh.infer() for _ in range(8)]
            await settle()
            at_other = len(other.received)
            assert 0 < at_other < 8
            told = Suspicion(target="digits/1", quarantined=[fingerprint(b"x")])
            accuser.sessions[0].send(ResultBundle(suspicions=[told]))
            await settle()
            assert [call.done() for call in calls].count(True) == at_other == len(other.cancelled)
            for call in calls:
                with pytest.raises(QueryOfDeath):
                    await call
            assert accuser.cancelled == []
            (stats,) = [stats for stats in mesh.core.stats() if stats.version == "1"]
            assert (stats.refused, stats.failed["FAILED_PRECONDITION"].count) == (at_other, 8)

    run(scenario())
