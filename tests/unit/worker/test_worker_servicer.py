"""How a stream of bundles ends at the worker, and what becomes of one that carries nonsense."""

import asyncio
from collections.abc import Sequence
from typing import Any

from opentelemetry.trace import NoOpTracer

from infermesh.v1 import worker_service_pb2 as pb
from infermesh.worker.models import HeldModel
from infermesh.worker.servicer import WorkerServicer
from infermesh.worker.serving import Serving
from tests.unit.worker.worker_fakes import Clock, FakeRunner, held, request_of, turns


class Wire:
    """The part of a call on a connection that is used."""

    congested = False

    def __init__(self) -> None:
        self.written: asyncio.Queue[pb.ResultBundle] = asyncio.Queue()
        self.end: asyncio.Future[dict[bytes, bytes]] = asyncio.get_running_loop().create_future()

    def send_headers(self, fields: Sequence[tuple[bytes, bytes]]) -> None:
        assert (b":status", b"200") in fields

    def send(self, message: bytes) -> None:
        self.written.put_nowait(pb.ResultBundle.FromString(message))

    def finish(self, fields: Sequence[tuple[bytes, bytes]]) -> None:
        self.end.set_result(dict(fields))


class Caller:
    """A gateway on a worker that serves `d/1`."""

    def __init__(self) -> None:
        clock, self.serving = Clock(), Serving()
        self.model: HeldModel = held(clock, changed=self.serving.changed)
        self.serving.add(self.model)
        self.runner = FakeRunner()
        self.model.attach(self.runner)
        self.servicer = WorkerServicer(self.serving, clock, NoOpTracer())
        self.wire: Any = Wire()
        self.session = self.servicer.serve(self.wire)

    async def rest(self) -> list[pb.ResultBundle]:
        """Returns everything until the stream ends well, which must be soon."""
        async with asyncio.timeout(5):
            assert (await self.wire.end)[b"grpc-status"] == b"0"
        return [self.wire.written.get_nowait() for _ in range(self.wire.written.qsize())]


async def test_a_stop_ends_a_stream_that_has_news() -> None:
    caller = Caller()
    await caller.wire.written.get()
    caller.serving.drain()  # the news
    caller.servicer.stop()
    assert [bundle.draining for bundle in await caller.rest()] == [True]


async def test_a_stop_waits_for_what_is_under_way() -> None:
    caller = Caller()
    await caller.wire.written.get()
    item = pb.WorkItem(id=1, kind=pb.WorkItem.INFER, target="d/1", payload=request_of().SerializeToString())
    caller.session.message(pb.WorkBundle(items=[item]).SerializeToString())
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
    caller.session.lost("it has read its last result, and goes")
    await asyncio.wait_for(left, 5)


async def test_nobody_has_to_leave_where_nobody_came() -> None:
    servicer = WorkerServicer(Serving(), Clock(), NoOpTracer())
    await asyncio.wait_for(servicer.left(), 5)


async def test_a_gateway_that_says_goodbye_gets_what_is_under_way() -> None:
    caller = Caller()
    await caller.wire.written.get()
    item = pb.WorkItem(id=1, kind=pb.WorkItem.INFER, target="d/1", payload=request_of().SerializeToString())
    caller.session.message(pb.WorkBundle(items=[item]).SerializeToString())
    caller.session.ended()
    await turns()
    assert not caller.wire.end.done()
    caller.runner.answer(0)
    assert [result.id for bundle in await caller.rest() for result in bundle.results] == [1]


async def test_who_sends_what_is_no_bundle_is_told_and_has_left() -> None:
    caller = Caller()
    caller.session.message(b"\xff\xff")
    end = await caller.wire.end
    assert end[b"grpc-status"] == b"3"
    assert b"WorkBundle" in end[b"grpc-message"]
    await asyncio.wait_for(caller.servicer.left(), 5)
