"""SimWorkers and SimSchedulers behind real connections, in this process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio

from infermesh.gateway.streams import SERVE
from infermesh.mesh.http2.outgoing import Fields
from infermesh.mesh.http2.server import RESPONSE, Server, accepting
from infermesh.mesh.http2.stream import Stream
from infermesh.mesh.server import bind, create_server
from infermesh.v1.scheduler_service_pb2 import RouteSnapshot
from infermesh.v1.scheduler_service_pb2_grpc import SchedulerServiceServicer, add_SchedulerServiceServicer_to_server
from infermesh.v1.worker_service_pb2 import ResultBundle, WorkBundle
from infermesh.v1.worker_service_pb2_grpc import WorkerServiceServicer, add_WorkerServiceServicer_to_server
from tests.unit.gateway.simulation import Session, SimScheduler, SimWorker


class _Worker(WorkerServiceServicer):
    def __init__(self, worker: SimWorker) -> None:
        self._worker = worker

    async def Serve(self, request_iterator: AsyncIterator[WorkBundle], context: Any) -> AsyncIterator[ResultBundle]:
        results: asyncio.Queue[ResultBundle | None] = asyncio.Queue()
        session = Session(self._worker, results.put_nowait, lambda: results.put_nowait(None))

        async def take() -> None:
            async for bundle in request_iterator:
                session.receive(bundle)
            session.end()

        taking = asyncio.create_task(take())
        try:
            while (bundle := await results.get()) is not None:
                yield bundle
        finally:
            taking.cancel()
            session.end()


class _Scheduler(SchedulerServiceServicer):
    def __init__(self, scheduler: SimScheduler) -> None:
        self._scheduler = scheduler

    async def WatchRoutes(self, request: Any, context: Any) -> AsyncIterator[RouteSnapshot]:
        async for snapshot in self._scheduler.subscribe():
            yield snapshot


@asynccontextmanager
async def hosted_worker(worker: SimWorker) -> AsyncIterator[tuple[str, grpc.aio.Server]]:
    """Serves a worker by gRPC's library; yields its address and the server, which a test may stop to kill it."""
    server = create_server()
    add_WorkerServiceServicer_to_server(_Worker(worker), server)
    async with _served(server) as address:
        yield address, server


class _Wired:
    """A gateway's stream to a worker, on a connection of ours."""

    def __init__(self, worker: SimWorker, stream: Stream) -> None:
        stream.send_headers(RESPONSE)
        self._session = Session(worker, lambda bundle: stream.send(bundle.SerializeToString()), stream.reset)

    def headers(self, fields: Fields) -> None: ...

    def message(self, data: bytes) -> None:
        self._session.receive(WorkBundle.FromString(data))

    def ended(self) -> None:
        self._session.end()

    def lost(self, why: str) -> None:
        self._session.end()


@asynccontextmanager
async def wired_worker(worker: SimWorker) -> AsyncIterator[str]:
    """Serves a worker as a real one does; yields its address."""
    async with Server("127.0.0.1:0", accepting({SERVE: lambda stream: _Wired(worker, stream)})) as server:
        yield server.address


@asynccontextmanager
async def hosted_scheduler(scheduler: SimScheduler) -> AsyncIterator[str]:
    """Serves a scheduler; yields its address."""
    server = create_server()
    add_SchedulerServiceServicer_to_server(_Scheduler(scheduler), server)
    async with _served(server) as address:
        yield address


@asynccontextmanager
async def _served(server: grpc.aio.Server) -> AsyncIterator[str]:
    address = await bind(server, "127.0.0.1:0")
    await server.start()
    try:
        yield address
    finally:
        await server.stop(None)
