"""How a stream of bundles ends at the worker."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from opentelemetry.trace import NoOpTracer

from infermesh.v1 import worker_service_pb2 as pb
from infermesh.worker.models import HeldModel
from infermesh.worker.servicer import WorkerServicer
from infermesh.worker.serving import Serving
from tests.unit.worker.worker_fakes import Clock, FakeRunner, held, request_of, turns


class Context:
    """The part of a gRPC context that is used."""

    def __init__(self) -> None:
        self.written: asyncio.Queue[pb.ResultBundle] = asyncio.Queue()

    async def write(self, bundle: pb.ResultBundle) -> None:
        self.written.put_nowait(bundle)

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        self.done = callback


class Caller:
    """A gateway on a worker that serves `d/1`."""

    def __init__(self) -> None:
        clock, self.serving = Clock(), Serving()
        self.model: HeldModel = held(clock, changed=self.serving.changed)
        self.serving.add(self.model)
        self.runner = FakeRunner()
        self.model.attach(self.runner)
        self.servicer = WorkerServicer(self.serving, clock, NoOpTracer())
        self.requests: asyncio.Queue[pb.WorkBundle] = asyncio.Queue()
        self.context = Context()
        self.serve = asyncio.create_task(self.servicer.Serve(self._requests(), self.context))

    async def _requests(self) -> AsyncIterator[pb.WorkBundle]:
        while True:
            yield await self.requests.get()

    async def rest(self) -> list[pb.ResultBundle]:
        """Returns everything until the stream ends, which must be soon."""
        async with asyncio.timeout(5):
            await self.serve
        return [self.context.written.get_nowait() for _ in range(self.context.written.qsize())]


async def test_a_stop_ends_a_stream_that_has_news() -> None:
    caller = Caller()
    await caller.context.written.get()
    caller.serving.drain()  # the news
    caller.servicer.stop()
    assert [bundle.draining for bundle in await caller.rest()] == [True]


async def test_a_stop_waits_for_what_is_under_way() -> None:
    caller = Caller()
    await caller.context.written.get()
    item = pb.WorkItem(id=1, kind=pb.WorkItem.INFER, target="d/1", payload=request_of().SerializeToString())
    caller.requests.put_nowait(pb.WorkBundle(items=[item]))
    await turns()
    rest = asyncio.create_task(caller.rest())
    caller.servicer.stop()
    await turns()
    assert not rest.done()
    caller.runner.answer(0)
    assert [result.id for bundle in await rest for result in bundle.results] == [1]


async def test_a_gateway_has_left_once_its_stream_is_over() -> None:
    caller = Caller()
    await turns()
    left = asyncio.create_task(caller.servicer.left())
    caller.serving.drain()
    await turns()
    assert not left.done()
    caller.context.done(None)  # it has read its last result, and goes
    await asyncio.wait_for(left, 5)
    caller.serve.cancel()


async def test_nobody_has_to_leave_where_nobody_came() -> None:
    caller = Caller()
    caller.serve.cancel()
    await asyncio.wait_for(caller.servicer.left(), 5)
