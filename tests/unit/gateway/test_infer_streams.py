"""ModelStreamInfer while the gateway is leaving: what was asked is answered, and who asks no more gets a clean end."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from infermesh.errors import NotReady
from infermesh.gateway.framing.outlet import Outlet
from infermesh.gateway.frontends.oip.stream import InferStreams
from infermesh.oip.v2 import grpc_service_pb2 as oip
from tests.unit.gateway.simulation import SimMesh, SimWorker, deployed, settle
from tests.unit.gateway.virtual import run

TARGET = "digits/1"
REQUEST = oip.ModelInferRequest(model_name="digits", id="7").SerializeToString()


@dataclass
class Caller:
    """Asks once, and then no more if it says so; `answers` is what it got."""

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
            self._asked = True
            return REQUEST
        if not self._caller.done.is_set():
            await self._caller.done.wait()
        raise StopAsyncIteration


async def served(caller: Caller, *, asks_no_more: bool) -> None:
    """Has the gateway leave between a request and the end of the caller's side."""
    worker = SimWorker("a", {TARGET: 1}, seconds=1)
    async with SimMesh(worker) as mesh:
        await mesh.route(deployed({"1": [worker]}))
        streams = InferStreams(mesh.core.dispatcher)
        stream = streams.begin(Requests(caller), caller)  # type: ignore[arg-type]
        pushing = asyncio.create_task(stream.push(Outlet(caller.take, lambda: None)))
        await settle()
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
