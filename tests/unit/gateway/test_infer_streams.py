"""ModelStreamInfer while the gateway is leaving: what was asked is answered, and who asks no more gets a clean end."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from infermesh.errors import NotReady
from infermesh.gateway.framing.outlet import Outlet, Round
from infermesh.gateway.frontends.oip.stream import InferStreams
from infermesh.oip.v2 import grpc_service_pb2 as oip
from tests.unit.gateway.simulation import SimMesh, SimWorker, deployed, settle
from tests.unit.gateway.virtual import run

TARGET = "digits/1"
REQUEST = oip.ModelInferRequest(model_name="digits", id="7").SerializeToString()


@dataclass
class Caller:
    """Asks once, when it wants to, and then no more if it says so; `answers` is what it got."""

    wants: asyncio.Event = field(default_factory=asyncio.Event)
    done: asyncio.Event = field(default_factory=asyncio.Event)
    answers: list[bytes] = field(default_factory=list)
    deadline: float | None = None

    def header(self, name: bytes) -> str:
        return ""

    async def take(self, messages: Sequence[bytes]) -> None:
        self.answers += messages


class Requests:
    """Requests that can be asked for again after a reader was cancelled, like `Inbound`."""

    def __init__(self, caller: Caller) -> None:
        self._caller, self._asked = caller, False

    def __aiter__(self) -> "Requests":
        return self

    async def __anext__(self) -> bytes:
        if not self._asked:
            await self._caller.wants.wait()
            self._asked = True
            return REQUEST
        if not self._caller.done.is_set():
            await self._caller.done.wait()
        raise StopAsyncIteration


@asynccontextmanager
async def gateway() -> AsyncIterator[InferStreams]:
    """A gateway whose worker takes a second for an answer."""
    worker = SimWorker("a", {TARGET: 1}, seconds=1)
    async with SimMesh(worker) as mesh:
        await mesh.route(deployed({"1": [worker]}))
        yield InferStreams(mesh.core.dispatcher)


async def opened(streams: InferStreams, caller: Caller) -> "asyncio.Task[None]":
    stream = streams.begin(Requests(caller), caller)  # type: ignore[arg-type]
    pushing = asyncio.create_task(stream.push(Outlet(caller.take, lambda: None, Round())))
    await settle()
    return pushing


async def served(caller: Caller, *, asks_no_more: bool) -> None:
    """Has the gateway leave between a request and the end of the caller's side."""
    caller.wants.set()
    async with gateway() as streams:
        pushing = await opened(streams, caller)
        streams.close()
        await settle()
        if asks_no_more:
            caller.done.set()
        await pushing


def test_who_has_ended_his_side_is_not_told_that_the_gateway_leaves() -> None:
    async def scenario() -> None:
        caller = Caller()
        await served(caller, asks_no_more=True)
        assert len(caller.answers) == 3

    run(scenario())


def test_who_might_ask_again_is_told_after_his_answers() -> None:
    async def scenario() -> None:
        caller = Caller()
        with pytest.raises(NotReady, match="open the stream again"):
            await served(caller, asks_no_more=False)
        assert len(caller.answers) == 3

    run(scenario())


@pytest.mark.parametrize("leaves", ["before the stream begins", "after it has begun"])
def test_a_first_request_that_is_on_its_way_is_answered(leaves: str) -> None:
    async def scenario() -> None:
        caller = Caller()
        async with gateway() as streams:
            if leaves == "before the stream begins":
                streams.close()
            pushing = await opened(streams, caller)
            streams.close()
            await asyncio.sleep(4)
            caller.wants.set()
            caller.done.set()
            await pushing
        assert len(caller.answers) == 3

    run(scenario())


@pytest.mark.parametrize(("idle", "until"), [(0, 5), (3, 5), (60, 60)])
def test_who_asks_nothing_is_waited_for_until_five_seconds_after_the_stream_began(idle: float, until: float) -> None:
    async def scenario() -> None:
        caller, now = Caller(), asyncio.get_running_loop().time
        async with gateway() as streams:
            began, pushing = now(), await opened(streams, caller)
            await asyncio.sleep(idle)
            streams.close()
            with pytest.raises(NotReady, match="open the stream again"):
                await pushing
            assert now() - began == pytest.approx(until, abs=0.1)
        assert not caller.answers

    run(scenario())
