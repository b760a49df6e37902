"""The gateway's core over real gRPC streams: workers and scheduler are simulated, the wire is not."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from random import Random

import grpc.aio
import pytest
from opentelemetry.trace import NoOpTracer
from prometheus_client import CollectorRegistry

from infermesh.gateway.calls import Call
from infermesh.gateway.core import Core
from infermesh.gateway.watch import subscription
from infermesh.mesh.channel import connect
from infermesh.v1.scheduler_service_pb2 import RouteWorker
from tests.unit.gateway.hosting import hosted_scheduler, hosted_worker
from tests.unit.gateway.simulation import SimScheduler, SimWorker, deployed, snapshot

TARGET = "digits/1"


@dataclass
class Mesh:
    core: Core
    scheduler: SimScheduler
    workers: list[SimWorker]
    servers: list[grpc.aio.Server]

    def infer(self, payload: bytes, seconds: float = 60.0) -> asyncio.Future[bytes]:
        deadline = asyncio.get_running_loop().time() + seconds
        return self.core.dispatcher.infer(Call("digits", "", payload, deadline))


@asynccontextmanager
async def running(*workers: SimWorker) -> AsyncIterator[Mesh]:
    """Runs a core with these workers, all of which hold version 1 of `digits`."""
    async with AsyncExitStack() as exits:
        hosts = [await exits.enter_async_context(hosted_worker(worker)) for worker in workers]
        scheduler = SimScheduler()
        channel = connect(await exits.enter_async_context(hosted_scheduler(scheduler)))
        exits.push_async_callback(channel.close)
        core = Core(
            gateway="gw",
            subscribe=subscription(channel, "gw"),
            registry=CollectorRegistry(),
            tracer=NoOpTracer(),
            rng=Random(7),
        )
        routes = snapshot(deployed({"1": list(workers)}), workers=[])
        for worker, (address, _) in zip(workers, hosts, strict=True):
            routes.workers.append(RouteWorker(id=worker.name, address=address, incarnation="1", weight=1.0))
        scheduler.publish(routes)
        await core.start()
        exits.push_async_callback(core.stop)
        await until(core.connected)
        yield Mesh(core, scheduler, list(workers), [server for _, server in hosts])


async def until(condition: Callable[[], bool]) -> None:
    """Waits for something that another task brings about."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def clients(count: int, each: int, call: Callable[[bytes], Awaitable[bytes]]) -> list[bytes | BaseException]:
    """Runs `count` clients that make `each` calls one after the other."""
    answers: list[bytes | BaseException] = []

    async def client(number: int) -> None:
        for turn in range(each):
            try:
                answers.append(await call(b"%d.%d" % (number, turn)))
            except Exception as error:
                answers.append(error)

    await asyncio.gather(*(client(number) for number in range(count)))
    return answers


async def test_a_call_reaches_a_worker_and_comes_back() -> None:
    async with running(SimWorker("a", {TARGET: 4}, seconds=0)) as mesh:
        assert await mesh.infer(b"\x00hello") == b"a|digits/1|\x00hello"


async def test_concurrent_calls_share_bundles() -> None:
    worker = SimWorker("a", {TARGET: 64}, seconds=0.01)
    async with running(worker) as mesh:
        await mesh.infer(b"first")
        worker.bundles.clear()

        await asyncio.gather(*(mesh.infer(b"x") for _ in range(64)))

    assert sum(len(bundle.items) for bundle in worker.bundles) == 64
    assert len(worker.bundles) <= 3  # the first call does not wait for the others


async def test_no_call_fails_when_a_worker_dies_in_the_middle_of_5000() -> None:
    a, b = SimWorker("a", {TARGET: 32}, seconds=0.002), SimWorker("b", {TARGET: 32}, seconds=0.002)
    async with running(a, b) as mesh:
        working = asyncio.ensure_future(clients(50, 100, mesh.infer))
        await until(lambda: len(a.received) > 500)

        await mesh.servers[0].stop(None)
        answers = await working

    failed = [answer for answer in answers if isinstance(answer, BaseException)]
    assert failed == []
    assert {answer.rpartition(b"|")[2] for answer in answers} == {
        b"%d.%d" % (c, t) for c in range(50) for t in range(100)
    }
    assert len(a.received) < len(b.received)


async def test_no_call_fails_while_the_scheduler_is_away() -> None:
    worker = SimWorker("a", {TARGET: 8}, seconds=0.001)
    async with running(worker) as mesh:
        await mesh.infer(b"first")
        mesh.scheduler.kill()

        answers = await clients(10, 20, mesh.infer)

    assert all(isinstance(answer, bytes) for answer in answers)


async def test_a_cancelled_call_is_cancelled_at_the_worker() -> None:
    worker = SimWorker("a", {TARGET: 1}, seconds=3600)
    async with running(worker) as mesh:
        call = mesh.infer(b"x")
        await until(lambda: bool(worker.received))

        call.cancel()
        await until(lambda: bool(worker.cancelled))

    assert worker.cancelled == [worker.received[0].id]


async def test_responses_of_a_stream_come_one_by_one() -> None:
    worker = SimWorker("a", {TARGET: 1}, seconds=0.001, responses=5)
    async with running(worker) as mesh:
        stream = mesh.core.dispatcher.stream(Call("digits", "", b"q"))

        assert [payload async for payload in stream] == [b"a|digits/1|q"] * 5


async def test_a_large_payload_arrives_unchanged() -> None:
    payload = bytes(range(256)) * 40_000  # 10 MB: above gRPC's own default limit and above one bundle
    async with running(SimWorker("a", {TARGET: 4}, seconds=0)) as mesh:
        answers = await asyncio.gather(*(mesh.infer(payload) for _ in range(3)))

    assert answers == [b"a|digits/1|" + payload] * 3


@pytest.mark.parametrize("name", ["a", "b"])
async def test_a_worker_that_drains_gets_no_more_and_finishes_what_it_has(name: str) -> None:
    a, b = SimWorker("a", {TARGET: 8}, seconds=0.005), SimWorker("b", {TARGET: 8}, seconds=0.005)
    chosen = a if name == "a" else b
    async with running(a, b) as mesh:
        working = asyncio.ensure_future(clients(10, 40, mesh.infer))
        await until(lambda: len(chosen.received) > 20)
        before = len(chosen.received)
        chosen.drain()

        answers = await working

    assert all(isinstance(answer, bytes) for answer in answers)
    # what was on its way when it spoke is at most its credit
    assert len(chosen.received) <= before + 8
