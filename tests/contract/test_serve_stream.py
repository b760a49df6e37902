"""What every `ServeStream` does: the real one, to a worker and to a server of gRPC's library, and the one in memory
that unit tests stand on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from infermesh.errors import WorkerLost
from infermesh.gateway.streams import ServeStream, WireServeStream
from infermesh.mesh.parcel import LARGE, Large, Parcel, whole
from infermesh.v1.worker_service_pb2 import ResultBundle, ResultItem, WorkBundle, WorkItem
from tests.unit.gateway.hosting import hosted_worker, wired_worker
from tests.unit.gateway.simulation import MemoryStream, SimWorker

TARGET = "digits/1"


@dataclass
class Wire:
    """A worker and a stream to it, whose bundles are gathered; `why` is what it has ended with."""

    worker: SimWorker
    stream: ServeStream
    bundles: asyncio.Queue[ResultBundle | None] = field(default_factory=asyncio.Queue)
    why: Exception | None = None

    async def run(self) -> None:
        try:
            await self.stream.run(self._take)
        except Exception as error:
            self.why = error
        self.bundles.put_nowait(None)

    def _take(self, bundle: ResultBundle, large: Large) -> None:
        for place, payload in large.items():
            bundle.results[place].payload = bytes(whole(payload))
        self.bundles.put_nowait(bundle)

    async def read(self) -> ResultBundle:
        bundle = await self.bundles.get()
        if bundle is None:
            assert self.why is not None
            raise self.why
        return bundle


@asynccontextmanager
async def in_memory(worker: SimWorker) -> AsyncIterator[Wire]:
    yield Wire(worker, MemoryStream(worker))


@asynccontextmanager
async def over_grpc(worker: SimWorker) -> AsyncIterator[Wire]:
    async with hosted_worker(worker) as (address, _):
        yield Wire(worker, WireServeStream(address))


@asynccontextmanager
async def over_a_connection(worker: SimWorker) -> AsyncIterator[Wire]:
    async with wired_worker(worker) as address:
        yield Wire(worker, WireServeStream(address))


@pytest.fixture(params=[in_memory, over_grpc, over_a_connection], ids=["memory", "grpc", "connection"])
async def wire(request: pytest.FixtureRequest) -> AsyncIterator[Wire]:
    async with request.param(SimWorker("a", {TARGET: 4}, seconds=0)) as wire:
        running = asyncio.create_task(wire.run())
        yield wire
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await wire.stream.close()


def work(*numbers: int, kind: WorkItem.Kind = WorkItem.INFER) -> Parcel[WorkBundle]:
    items = [WorkItem(id=n, kind=kind, target=TARGET, payload=b"\x00\xff%d" % n) for n in numbers]
    return Parcel(WorkBundle(items=items))


async def results(wire: Wire, count: int) -> list[ResultItem]:
    found: list[ResultItem] = []
    while len(found) < count:
        found.extend((await wire.read()).results)
    return found


async def test_the_worker_speaks_first(wire: Wire) -> None:
    first = await wire.read()

    assert [(load.target, load.credit) for load in first.loads] == [(TARGET, 4)]


async def test_every_item_is_answered_once_with_its_own_bytes(wire: Wire) -> None:
    await wire.read()
    wire.stream.write(work(1, 2))
    wire.stream.write(work(3))

    answers = {result.id: result.payload for result in await results(wire, 3)}

    assert answers == {n: b"a|digits/1|\x00\xff%d" % n for n in (1, 2, 3)}


async def test_large_payloads_travel_beside_their_items(wire: Wire) -> None:
    await wire.read()
    items = [WorkItem(id=n, kind=WorkItem.INFER, target=TARGET) for n in (1, 2, 3)]
    items[1].payload = b"small"
    one, halves = bytes(range(256)) * (LARGE >> 7), (memoryview(bytes(LARGE)), b"2")
    wire.stream.write(Parcel(WorkBundle(items=items), {0: (one,), 2: halves}))

    answers = {result.id: result.payload for result in await results(wire, 3)}

    assert answers == {1: b"a|digits/1|" + one, 2: b"a|digits/1|small", 3: b"a|digits/1|" + b"".join(halves)}


async def test_a_streamed_item_has_several_results_and_the_last_is_final(wire: Wire) -> None:
    await wire.read()
    wire.stream.write(work(1, kind=WorkItem.STREAM))

    answers = await results(wire, 3)

    assert [(result.id, result.final) for result in answers] == [(1, False), (1, False), (1, True)]


async def test_reading_raises_worker_lost_when_the_worker_dies(wire: Wire) -> None:
    await wire.read()
    reading = asyncio.ensure_future(wire.read())
    await asyncio.sleep(0)

    wire.worker.kill()

    with pytest.raises(WorkerLost):
        await reading


async def test_writing_raises_worker_lost_after_the_end(wire: Wire) -> None:
    await wire.read()
    wire.worker.kill()
    with pytest.raises(WorkerLost):
        await wire.read()

    with pytest.raises(WorkerLost):
        wire.stream.write(work(1))


async def test_closing_ends_the_session_at_the_worker(wire: Wire) -> None:
    await wire.read()

    await wire.stream.close()

    async with asyncio.timeout(10):
        while wire.worker.sessions:  # noqa: ASYNC110  # the worker is told by the network, not by an event of ours
            await asyncio.sleep(0.001)


async def test_closing_twice_is_fine(wire: Wire) -> None:
    await wire.stream.close()
    await wire.stream.close()


@pytest.mark.parametrize("opened", [lambda: MemoryStream(None), lambda: WireServeStream("127.0.0.1:1")])
async def test_a_worker_that_is_not_there_is_noticed_by_running(opened) -> None:  # type: ignore[no-untyped-def]
    stream = opened()

    with pytest.raises(WorkerLost):
        await stream.run(lambda bundle, large: None)
    with pytest.raises(WorkerLost):
        stream.write(work(1))

    await stream.close()


@pytest.mark.parametrize("hosted", [in_memory, over_grpc, over_a_connection], ids=["memory", "grpc", "connection"])
async def test_what_taking_a_bundle_raises_ends_the_stream(hosted) -> None:  # type: ignore[no-untyped-def]
    def take(bundle: ResultBundle, large: Large) -> None:
        raise KeyError("a fault of ours")

    async with hosted(SimWorker("a", {TARGET: 4}, seconds=0)) as wire, asyncio.timeout(10):
        with pytest.raises(KeyError):
            await wire.stream.run(take)
        await wire.stream.close()
