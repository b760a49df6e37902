"""Terms begin and end with the lead, and give their ports back."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
from prometheus_client import CollectorRegistry

from infermesh.mesh import server, status
from infermesh.mesh.metrics import SchedulerMetrics
from infermesh.scheduler.leadership.fence import Fence
from infermesh.scheduler.term import Reign, Term


class PlayedLeadership:
    """Leads when the test says so."""

    def __init__(self) -> None:
        self.leads = asyncio.Event()
        self.leads_not = asyncio.Event()
        self.released = False
        self.running = False
        self.turn(False)

    def turn(self, leads: bool) -> None:
        (self.leads if leads else self.leads_not).set()
        (self.leads_not if leads else self.leads).clear()

    async def run(self) -> None:
        self.running = True
        try:
            await asyncio.Event().wait()
        finally:
            self.running = False

    async def gained(self) -> str:
        await self.leads.wait()
        return "it is its turn"

    async def lost(self) -> str:
        await self.leads_not.wait()
        return "its turn is over"

    def holds(self) -> bool:
        return self.leads.is_set()

    async def release(self) -> None:
        assert not self.running
        self.released = True


class PlayedProcess:
    """Is told to stop when the test says so, and is a lame duck until the test says that it is over."""

    def __init__(self) -> None:
        self.told, self.lame = asyncio.Event(), asyncio.Event()

    async def until_told(self) -> None:
        await self.told.wait()

    async def until_stopped(self) -> None:
        await self.told.wait()
        await self.lame.wait()


class World:
    """A reign whose terms serve a call that waits until it is let go, always on the same port."""

    def __init__(self) -> None:
        self.leadership, self.process = PlayedLeadership(), PlayedProcess()
        self.registry = CollectorRegistry()
        self.address = "127.0.0.1:0"
        self.changed = asyncio.Event()
        self.serving = False
        self.draining = asyncio.Event()
        self.arrived, self.let_go = asyncio.Event(), asyncio.Event()
        self.reign = Reign(self.leadership, self.begin, SchedulerMetrics(self.registry), drain_timeout=30.0)
        self.task = asyncio.ensure_future(self.reign.run(self.process))  # type: ignore[arg-type]

    @contextlib.asynccontextmanager
    async def begin(self) -> AsyncIterator[Term]:
        term = Term(self._farewell)
        grpc_server = server.create_server([Fence(self.leadership.holds)])
        handler = grpc.unary_unary_rpc_method_handler(self._call)
        handlers = grpc.method_handlers_generic_handler("test.Service", {"Call": handler})
        grpc_server.add_generic_rpc_handlers((handlers,))
        try:
            self.address = await term.serve(grpc_server, self.address)
            self._say(True)
            yield term
        finally:
            await term.end(0)
            self._say(False)

    async def _call(self, request: bytes, context: Any) -> bytes:
        self.arrived.set()
        await self.let_go.wait()
        return request

    def _farewell(self) -> None:
        self.draining.set()

    def _say(self, serving: bool) -> None:
        self.serving = serving
        self.changed.set()
        self.changed = asyncio.Event()

    async def until(self, serving: bool) -> None:
        async with asyncio.timeout(30):
            while self.serving is not serving:
                await self.changed.wait()

    async def call(self) -> bytes:
        async with grpc.aio.insecure_channel(self.address) as channel:
            answer: bytes = await channel.unary_unary("/test.Service/Call")(b"x")
            return answer

    def metric(self, name: str) -> float | None:
        return self.registry.get_sample_value(f"infermesh_scheduler_{name}")


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    made.task.cancel()
    await asyncio.wait([made.task])


async def test_terms_follow_each_other_on_one_port(world: World) -> None:
    world.let_go.set()
    for number in range(1, 6):
        world.leadership.turn(True)
        await world.until(serving=True)
        assert await world.call() == b"x"
        assert (world.metric("leader"), world.metric("leader_transitions_total")) == (1, number)
        world.leadership.turn(False)
        await world.until(serving=False)
        with pytest.raises(grpc.aio.AioRpcError):
            await world.call()
    assert world.metric("leader") == 0
    assert not world.leadership.released


async def test_who_loses_the_lead_cuts_its_calls(world: World) -> None:
    world.leadership.turn(True)
    await world.until(serving=True)
    call = asyncio.ensure_future(world.call())
    await world.arrived.wait()
    world.leadership.turn(False)
    await world.until(serving=False)
    with pytest.raises(grpc.aio.AioRpcError):
        await call


async def test_who_is_told_to_stop_finishes_its_calls_and_gives_the_lead_back(world: World) -> None:
    world.leadership.turn(True)
    await world.until(serving=True)
    call = asyncio.ensure_future(world.call())
    await world.arrived.wait()
    world.process.told.set()
    world.process.lame.set()
    await world.draining.wait()
    assert not world.leadership.released
    world.let_go.set()
    assert await call == b"x"
    await world.task
    assert world.leadership.released


async def test_who_loses_the_lead_while_it_drains_cuts_its_calls(world: World) -> None:
    world.leadership.turn(True)
    await world.until(serving=True)
    call = asyncio.ensure_future(world.call())
    await world.arrived.wait()
    world.process.told.set()
    world.process.lame.set()
    await world.draining.wait()
    world.leadership.turn(False)
    await world.task
    with pytest.raises(grpc.aio.AioRpcError):
        await call


async def test_one_that_stands_by_stops_at_once(world: World) -> None:
    world.process.told.set()
    await world.task
    assert world.leadership.released


async def test_a_call_that_comes_after_the_lead_was_lost_is_refused(world: World) -> None:
    world.let_go.set()
    world.leadership.turn(True)
    await world.until(serving=True)
    world.leadership.leads.clear()  # as in a process that wakes up and does not know yet
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.call()
    error = status.from_rpc_error(caught.value)
    assert (error.reason, error.retry_after) == ("NOT_READY", 1.0)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_part_that_fails_ends_the_process_and_gives_the_lead_back(world: World) -> None:
    async def failing() -> AsyncIterator[Term]:
        raise RuntimeError("a fault")
        yield

    world.reign._begin = contextlib.asynccontextmanager(failing)
    world.leadership.turn(True)
    with pytest.raises(ExceptionGroup):
        await world.task
    assert world.leadership.released
