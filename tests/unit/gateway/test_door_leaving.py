"""How a connection of the gRPC port is sent away: what it has begun is served, and what comes before it has heard."""

import asyncio
from typing import Any

import pytest

from infermesh.mesh.http2 import frames
from infermesh.mesh.http2.frames import Code, Kind
from tests.unit.gateway.door_parts import OK, Caller, House, done
from tests.unit.gateway.virtual import run
from tests.unit.gateway_front.wire import framed
from tests.unit.mesh.http2_parts import turns

FOREVER = frames.WINDOW
FIRST = (FOREVER, Code.NO_ERROR)


def waits(data: bytes, reply: Any) -> None:
    """Begins a call that is not answered yet."""


def test_who_is_sent_away_is_served_until_he_has_heard_it() -> None:
    async def scenario() -> None:
        caller = Caller()
        caller.service.begin = waits
        before = caller.call(b"before")
        caller.connection.leave()
        caller.connection.leave()
        between = caller.call(b"between")
        assert caller.farewells == [FIRST]
        await asyncio.sleep(1.1)
        assert caller.farewells == [FIRST, (between, Code.NO_ERROR)]
        after = caller.call(b"after")
        assert len(caller.service.replies) == 2
        caller.service.replies[0].answer(b"one")
        assert not caller.pipe.end
        caller.service.replies[1].answer(b"two")
        assert caller.pipe.end == "closed"
        assert [caller.answer(number).messages for number in (before, between)] == [[b"one"], [b"two"]]
        assert caller.answer(after).blocks == []

    run(scenario())


def test_a_connection_without_calls_leaves_by_itself() -> None:
    async def scenario() -> None:
        caller = Caller()
        caller.connection.leave()
        await asyncio.sleep(0.9)
        assert (caller.pipe.end, caller.farewells) == ("", [FIRST])
        await asyncio.sleep(0.2)
        assert (caller.pipe.end, caller.farewells) == ("closed", [FIRST, (0, Code.NO_ERROR)])

    run(scenario())


def test_calls_on_the_long_way_are_served_to_their_end_too() -> None:
    async def scenario() -> None:
        caller = Caller()
        number = caller.begin("Chat")
        caller.connection.leave()
        await asyncio.sleep(5)
        caller.data(number, framed(b"still here?"))
        caller.data(number, b"", end=True)
        (answer,) = await done(caller, number)
        assert (answer.code, answer.messages) == (OK, [b"you said still here?"])
        assert caller.pipe.end == "closed"

    run(scenario())


def test_an_answer_that_waits_for_its_caller_holds_the_connection() -> None:
    async def scenario() -> None:
        caller = Caller()
        caller.service.begin = lambda data, reply: reply.answer(bytes(100_000))
        number = caller.call(b"x")
        caller.connection.leave()
        await asyncio.sleep(2)
        assert not caller.pipe.end
        caller.grant(100_000, 0, number)
        assert caller.answer(number).code == OK
        assert caller.pipe.end == "closed"

    run(scenario())


def test_calls_that_wait_for_their_turn_when_the_last_word_is_said_are_not_served() -> None:
    async def scenario() -> None:
        caller = Caller(House(calls_at_once=1))
        caller.service.begin = waits
        caller.connection.leave()
        caller.call(b"x")
        caller.connection._leave_for_good()
        caller.call(b"x")
        await turns()
        assert caller.farewells == [FIRST, (1, Code.NO_ERROR)]
        assert len(caller.service.replies) == 1

    run(scenario())


def test_a_lost_connection_says_no_last_word() -> None:
    async def scenario() -> None:
        caller = Caller()
        caller.connection.leave()
        caller.lose()
        assert caller.connection._goodbye is not None
        assert caller.connection._goodbye.cancelled()
        await asyncio.sleep(2)
        assert caller.farewells == [FIRST]

    run(scenario())


@pytest.mark.parametrize("greets", [False, True])
def test_who_comes_while_the_port_leaves_is_sent_away(greets: bool) -> None:
    async def scenario() -> None:
        house = House()
        house.port.leaving = greets
        caller = Caller(house, greets=False)
        house.port.leaving = True
        caller.connection.leave()
        assert caller.pipe.sent == b""
        caller.give(frames.PREFACE, frames.settings(()))
        assert [each.kind for each in caller.listen()][:3] == [Kind.SETTINGS, Kind.WINDOW_UPDATE, Kind.GOAWAY]
        assert caller.answer(caller.call(b"x")).code == OK
        await asyncio.sleep(1.1)
        assert caller.pipe.end == "closed"

    run(scenario())
