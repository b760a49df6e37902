"""How calls on the gRPC port end before their time: cancelled, lost, refused. And that nothing is left of any call."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from infermesh.mesh.http2 import frames
from infermesh.mesh.http2.frames import Code, Kind
from tests.unit.gateway.door_parts import LATE, OK, Caller, House, on_the_long_way
from tests.unit.gateway.virtual import run
from tests.unit.gateway_front.wire import framed
from tests.unit.mesh.http2_parts import turns

Ending = Callable[[Caller, int], None]
ENDINGS: dict[str, Ending] = {
    "reset": lambda caller, number: caller.reset(number),
    "lost": lambda caller, number: caller.lose(),
    "closed": lambda caller, number: caller.connection.close(),
    "cut": lambda caller, number: caller.streams[number].cut(Code.CANCEL),
}
EACH = pytest.mark.parametrize("ending", ENDINGS)


def waits(data: bytes, reply: Any) -> None:
    """Begins a call that is not answered yet."""


@EACH
async def test_a_direct_call_that_ends_before_its_answer_is_cancelled_once(ending: str) -> None:
    caller = Caller()
    caller.service.begin = waits
    number = caller.call(b"x")
    ENDINGS[ending](caller, number)
    assert caller.service.running[0].cancelled == 1
    assert not caller.streams
    caller.service.replies[0].answer(b"too late")
    caller.service.replies[0].fail(KeyError("too late"))
    answer = caller.answer(number)
    assert (answer.blocks, answer.pieces) == ([], [])
    assert answer.reset == (Code.CANCEL if ending == "cut" else None)


@EACH
async def test_a_call_that_ends_before_its_request_has_come_is_forgotten(ending: str) -> None:
    caller = Caller()
    number = caller.begin()
    call = caller.streams[number]
    assert call.slot == {call: None}
    ENDINGS[ending](caller, number)
    assert call.slot is None
    assert not caller.house.desk.vigil._young
    if ending == "reset":
        caller.data(number, framed(b"x"), end=True)
    assert not caller.service.replies
    assert not caller.streams


@EACH
async def test_a_call_that_ends_within_its_answer_sends_no_more_of_it(ending: str) -> None:
    caller = Caller()
    caller.service.begin = lambda data, reply: reply.answer(bytes(100_000))
    number = caller.call(b"x")
    ENDINGS[ending](caller, number)
    assert not caller.streams
    assert caller.house.port.waiting == 0
    before = len(caller.pipe.sent)
    if ending in ("reset", "cut"):
        caller.grant(1 << 20, 0)
    assert len(caller.pipe.sent) == before
    assert not caller.answer(number).ended


async def test_a_reset_after_the_answer_means_nothing() -> None:
    caller = Caller()
    number = caller.call(b"x")
    caller.reset(number)
    assert caller.answer(number).code == OK
    assert caller.answer(caller.call(b"next")).code == OK
    assert caller.service.running[0].cancelled == 0


@EACH
async def test_a_call_on_the_long_way_is_cancelled(ending: str) -> None:
    caller = Caller()
    number = caller.call(b"x", "Hang")
    await turns()
    assert on_the_long_way(caller.house) == 1
    ENDINGS[ending](caller, number)
    await turns()
    assert (on_the_long_way(caller.house), caller.service.cancelled) == (0, 1)
    assert not caller.streams
    assert not caller.answer(number).ended
    assert not caller.house.guard.alive


@EACH
@pytest.mark.parametrize("name", ["Direct", "Unary", "Collect", "Chat"])
async def test_a_call_that_ends_within_its_request_leaves_nothing(name: str, ending: str) -> None:
    caller = Caller()
    number = caller.begin(name)
    caller.data(number, framed(bytes(100))[:50])
    await turns()
    ENDINGS[ending](caller, number)
    await turns()
    assert on_the_long_way(caller.house) == 0
    assert caller.house.guard.held == 0
    assert not caller.answer(number).blocks
    assert not caller.service.contexts


@EACH
def test_who_goes_away_while_what_it_sent_is_not_read_ends_the_call(ending: str) -> None:
    async def scenario() -> None:
        caller = Caller()
        number = caller.begin("Deaf")
        for _ in range(20):
            caller.data(number, framed(bytes(10_000)))
            await turns(5)
        ENDINGS[ending](caller, number)
        await asyncio.sleep(5)
        assert (on_the_long_way(caller.house), caller.service.cancelled) == (0, 1)
        assert caller.house.guard.held == 0

    run(scenario())


@EACH
async def test_a_silent_call_whose_caller_has_gone_ends_when_it_is_to_show_life(ending: str) -> None:
    caller = Caller()
    number = caller.begin("Mute")
    caller.data(number, framed(bytes(100_000)))
    await turns()
    ENDINGS[ending](caller, number)
    for _ in range(2):
        for call in list(caller.house.guard.alive):
            call.show_life()
        await turns()
    assert (on_the_long_way(caller.house), caller.service.cancelled) == (0, 1)
    assert caller.house.guard.held == 0


@EACH
def test_who_goes_away_while_a_stream_waits_for_it_ends_the_call(ending: str) -> None:
    async def scenario() -> None:
        caller = Caller()
        number = caller.call(b" ".join([b"50000"] * 9), "Many")
        await turns()
        ENDINGS[ending](caller, number)
        await turns()
        assert on_the_long_way(caller.house) == 0

    run(scenario())


def test_a_deadline_ends_a_stream_that_waits_for_its_caller() -> None:
    async def scenario() -> None:
        caller = Caller()
        caller.grant(1 << 20, 0)
        number = caller.call(b"100000 100000", "Many", (b"grpc-timeout", b"1S"))
        await asyncio.sleep(2)
        assert on_the_long_way(caller.house) == 0
        assert number in caller.streams, "its caller has not taken all yet"
        caller.grant(1 << 20, number)
        assert caller.answer(number).code == LATE
        assert not caller.streams

    run(scenario())


async def test_all_calls_of_a_lost_connection_end() -> None:
    caller = Caller()
    caller.service.begin = waits
    for name in ("Direct", "Hang", "Direct", "Hang"):
        caller.call(b"x", name)
    caller.begin()
    caller.begin("Chat")
    await turns()
    caller.lose()
    await turns()
    assert [running.cancelled for running in caller.service.running] == [1, 1]
    assert (on_the_long_way(caller.house), caller.service.cancelled) == (0, 2)
    assert not caller.house.connections
    assert not caller.streams


async def test_other_connections_live_on() -> None:
    house = House()
    one, other = Caller(house), Caller(house)
    house.service.begin = waits
    one.call(b"x")
    number = other.call(b"x")
    one.lose()
    house.service.replies[1].answer(b"fine")
    assert other.answer(number).messages == [b"fine"]


async def test_a_call_that_goes_on_with_a_lost_connection_says_nothing() -> None:
    caller = Caller()
    number = caller.begin("Chat")
    await turns()
    caller.pipe.end = "lost"  # asserts that nothing is written
    caller.data(number, framed(b"x"))
    caller.connection.connection_lost(None)
    await turns()
    assert on_the_long_way(caller.house) == 0


@pytest.mark.parametrize(
    "misplaced",
    [
        frames.frame(Kind.DATA, 0, 0, b"x"),
        frames.frame(Kind.HEADERS, frames.END_HEADERS, 0, b"\x83"),
        frames.frame(Kind.HEADERS, 0, 99, b"\x83") + frames.frame(Kind.DATA, 0, 1, b"x"),
        frames.window_update(1, 0),
    ],
    ids=["data of no stream", "headers of no stream", "data within headers", "a window that grows by nothing"],
)
async def test_a_frame_that_may_not_come_ends_the_connection(misplaced: bytes) -> None:
    caller = Caller()
    caller.begin("Hang")
    caller.give(misplaced)
    assert [code for _, code in caller.farewells] == [Code.PROTOCOL_ERROR]
    assert (caller.pipe.end, caller.streams) == ("closed", {})
    await turns()
