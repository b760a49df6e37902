"""Streamed calls: responses as they come, a bound on what is unread, and an end in every case."""

import asyncio

import pytest

from infermesh.errors import DeadlineExceeded, NotFound, Overloaded
from infermesh.gateway.admission import Limits
from infermesh.gateway.calls import Call
from infermesh.gateway.pending import PendingStream
from infermesh.v1.worker_service_pb2 import ResultBundle, ResultItem, WorkItem
from tests.unit.gateway.simulation import SimMesh, SimWorker, deployed, settle
from tests.unit.gateway.virtual import run

TARGET = "digits/1"


def begin(mesh: SimMesh, seconds: float | None = None) -> PendingStream:
    deadline = None if seconds is None else asyncio.get_running_loop().time() + seconds
    return mesh.core.dispatcher.stream(Call("digits", "", b"q", deadline))


async def read_all(stream: PendingStream, into: list[bytes]) -> None:
    async for response in stream:
        into.append(response)


def test_responses_come_when_they_are_there() -> None:
    async def scenario() -> None:
        worker = SimWorker("a", {TARGET: 1}, seconds=1)
        async with SimMesh(worker) as mesh:
            await mesh.route(deployed({"1": [worker]}))
            loop = asyncio.get_running_loop()
            began, times = loop.time(), []
            async for response in begin(mesh):
                assert response == b"a|digits/1|q"
                times.append(loop.time() - began)
        assert times == pytest.approx([1, 2, 3])
        assert worker.received[0].kind == WorkItem.STREAM

    run(scenario())


def test_a_stream_holds_its_credit_until_its_end() -> None:
    async def scenario() -> None:
        worker = SimWorker("a", {TARGET: 1}, seconds=1)
        async with SimMesh(worker) as mesh:
            await mesh.route(deployed({"1": [worker]}))
            stream, call = begin(mesh), mesh.infer()
            await anext(stream)
            assert len(worker.received) == 1
            await call
            assert [item.kind for item in worker.received] == [WorkItem.STREAM, WorkItem.INFER]

    run(scenario())


def test_an_empty_last_result_ends_the_stream_without_a_response() -> None:
    async def scenario() -> None:
        worker = SimWorker("a", {TARGET: 1}, seconds=100)
        async with SimMesh(worker) as mesh:
            await mesh.route(deployed({"1": [worker]}))
            stream = begin(mesh)
            await settle()
            first, last = ResultItem(id=1, payload=b"only"), ResultItem(id=1, final=True)
            worker.sessions[0].send(ResultBundle(results=[first, last]))
            assert [response async for response in stream] == [b"only"]

    run(scenario())


def test_closing_a_stream_cancels_it_at_the_worker() -> None:
    async def scenario() -> None:
        worker = SimWorker("a", {TARGET: 1}, seconds=1)
        async with SimMesh(worker) as mesh:
            await mesh.route(deployed({"1": [worker]}))
            stream = begin(mesh)
            await anext(stream)
            await stream.aclose()
            await settle()
            assert worker.cancelled == [worker.received[0].id]
            with pytest.raises(StopAsyncIteration):
                await anext(stream)

    run(scenario())


def test_cancelling_the_reader_cancels_the_call() -> None:
    async def scenario() -> None:
        worker = SimWorker("a", {TARGET: 1}, seconds=1)
        async with SimMesh(worker) as mesh:
            await mesh.route(deployed({"1": [worker]}))
            reading = asyncio.create_task(anext(begin(mesh)))  # type: ignore[arg-type]
            await asyncio.sleep(0.5)
            reading.cancel()
            await settle()
            assert worker.cancelled == [worker.received[0].id]
            assert reading.cancelled()

    run(scenario())


def test_closing_after_the_end_changes_nothing() -> None:
    async def scenario() -> None:
        worker = SimWorker("a", {TARGET: 1})
        async with SimMesh(worker) as mesh:
            await mesh.route(deployed({"1": [worker]}))
            stream = begin(mesh)
            assert len([response async for response in stream]) == 3
            await stream.aclose()
            [stats] = [stats for stats in mesh.core.stats() if stats.model]
            assert (stats.ok.count, stats.failed) == (1, {})
        assert worker.cancelled == []

    run(scenario())


def test_a_reader_that_is_too_slow_loses_its_call_and_nobody_elses() -> None:
    async def scenario() -> None:
        worker = SimWorker("a", {TARGET: 2}, seconds=0.01, responses=100)
        async with SimMesh(worker, limits=Limits(max_unread_bytes=1_000)) as mesh:
            await mesh.route(deployed({"1": [worker]}))
            slow, quick = begin(mesh), begin(mesh)
            assert len([response async for response in quick]) == 100

            received: list[bytes] = []
            with pytest.raises(Overloaded) as caught:
                await read_all(slow, received)
            assert caught.value.reason == "READER_TOO_SLOW"
            assert 0 < len(received) < 10
        assert worker.cancelled == [worker.received[0].id]

    run(scenario())


def test_the_deadline_ends_a_stream_after_what_came_before() -> None:
    async def scenario() -> None:
        worker = SimWorker("a", {TARGET: 1}, seconds=1)
        async with SimMesh(worker) as mesh:
            await mesh.route(deployed({"1": [worker]}))
            received: list[bytes] = []
            with pytest.raises(DeadlineExceeded):
                await read_all(begin(mesh, seconds=1.5), received)
            assert len(received) == 1
        assert worker.cancelled == [worker.received[0].id]

    run(scenario())


def test_an_error_is_raised_by_iterating_not_by_beginning() -> None:
    async def scenario() -> None:
        async with SimMesh() as mesh:
            await mesh.route()
            stream = begin(mesh)
            with pytest.raises(NotFound):
                await anext(stream)

    run(scenario())
