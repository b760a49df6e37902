"""Callers who wait are asked for ever more rarely whether they are still there, and are missed within a second."""

import asyncio

import pytest

from infermesh.gateway.framing.inbound import Event, watch
from tests.unit.gateway.virtual import run
from tests.unit.gateway_front.wire import DISCONNECT, body


class Caller:
    """Answers `receive` like Envoy once the request has ended: at once, and with a disconnect once it has left."""

    def __init__(self, leaves: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._leaves = self._loop.time() + leaves
        self.asked = 0
        self.missed: float | None = None

    async def receive(self) -> Event:
        self.asked += 1
        return DISCONNECT if self._loop.time() >= self._leaves else body(b"")

    def gone(self) -> None:
        assert self.missed is None, "told twice"
        self.missed = self._loop.time() - self._leaves


@pytest.mark.parametrize("leaves", [0.0, 0.1, 0.3, 5.0, 60.0])
def test_a_caller_who_leaves_is_missed_soon(leaves: float) -> None:
    async def scenario() -> None:
        caller = Caller(leaves)
        watch(caller.receive, caller.gone, lambda: False)
        await asyncio.sleep(leaves + 1.001)
        assert caller.missed is not None
        assert caller.missed <= min(1.0, 0.25 + leaves) + 0.001
        asked = caller.asked
        await asyncio.sleep(10)
        assert caller.asked == asked

    run(scenario())


def test_a_long_wait_costs_a_question_a_second() -> None:
    async def scenario() -> None:
        caller, over = Caller(1e9), False
        watch(caller.receive, caller.gone, lambda: over)
        await asyncio.sleep(60)
        assert 55 <= caller.asked <= 63
        over = True
        await asyncio.sleep(60)
        assert caller.asked <= 63
        assert caller.missed is None

    run(scenario())
