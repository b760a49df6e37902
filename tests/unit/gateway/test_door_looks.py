"""What stands still on the gRPC port is ended, at the times that are set; and how a connection is sent away."""

from typing import Any

import pytest

from infermesh.mesh.http2 import frames
from infermesh.mesh.http2.frames import END_HEADERS, Code, Kind
from tests.unit.gateway.door_parts import OK, Caller, House, done, on_the_long_way
from tests.unit.gateway_front.wire import framed
from tests.unit.mesh.http2_parts import turns

FOREVER = frames.WINDOW
FIRST = (FOREVER, Code.NO_ERROR)


def waits(data: bytes, reply: Any) -> None:
    """Begins a call that is not answered yet."""


def look(caller: Caller, *after: float) -> None:
    """Looks at a connection, so many seconds after it was made."""
    for each in after:
        caller.connection.look(caller.connection._opened + each)


# -- the first bytes, and headers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [b"", frames.PREFACE[:10]])
async def test_who_says_nothing_is_cut(said: bytes) -> None:
    caller = Caller(House(header_timeout=10.0), greets=False)
    caller.give(said) if said else None
    look(caller, 1, 9.5)
    assert not caller.pipe.end
    look(caller, 10.5)
    assert caller.pipe.end == "aborted"
    assert caller.pipe.sent == b""


async def test_who_has_said_what_he_speaks_may_be_silent() -> None:
    caller = Caller(House(header_timeout=10.0), greets=False)
    caller.give(frames.PREFACE)
    look(caller, 1, 11, 100)
    assert not caller.pipe.end


PARTS = {
    "a block without its end": frames.frame(Kind.HEADERS, 0, 1, b"\x83"),
    "a frame without its end": frames.frame(Kind.HEADERS, END_HEADERS, 1, b"\x83" * 50)[:40],
    "half the head of a frame": frames.frame(Kind.HEADERS, END_HEADERS, 1, b"\x83" * 50)[:5],
}


@pytest.mark.parametrize("part", PARTS)
async def test_headers_must_be_whole_in_time(part: str) -> None:
    caller = Caller(House(header_timeout=10.0))
    caller.call(b"x", "Hang")
    caller.give(PARTS[part])
    look(caller, 5, 14)
    assert not caller.pipe.end, "they are new at the first look"
    look(caller, 16)
    assert caller.pipe.end == "aborted"
    assert not caller.streams
    await turns()


async def test_continuations_do_not_make_headers_younger() -> None:
    caller = Caller(House(header_timeout=10.0))
    caller.give(frames.frame(Kind.HEADERS, 0, 1, b"\x83"))
    for after in range(0, 12, 2):
        look(caller, after)
        assert not caller.pipe.end
        caller.give(frames.frame(Kind.CONTINUATION, 0, 1, b"\x83"))
    look(caller, 12)
    assert caller.pipe.end == "aborted"


@pytest.mark.parametrize("cut", [5, 30], ids=["within a head", "within a frame"])
async def test_headers_that_are_cut_at_every_look_are_fine_if_they_go_on(cut: int) -> None:
    caller = Caller(House(header_timeout=10.0))
    left = b""
    for after in range(0, 40, 4):
        number, block = caller.headers()
        sent = frames.frame(Kind.HEADERS, END_HEADERS, number, block)
        caller.give(left, sent[:cut])
        left = sent[cut:] + frames.frame(Kind.DATA, frames.END_STREAM, number, framed(b"x"))
        look(caller, after)
    assert not caller.pipe.end
    assert len(caller.service.replies) == 9


@pytest.mark.parametrize("padded", [False, True])
async def test_a_request_may_take_longer_than_its_headers(padded: bool) -> None:
    caller = Caller(House(header_timeout=10.0))
    number = caller.begin("Collect")
    flags = frames.PADDED if padded else 0
    caller.give(frames.frame(Kind.DATA, flags, number, bytes(padded) + framed(bytes(100)))[:50])
    look(caller, 0, 11, 22)
    assert not caller.pipe.end
    await turns()


# -- idle and old connections ------------------------------------------------------------------------------------------


async def test_a_connection_without_calls_is_sent_away() -> None:
    caller = Caller(House(idle_timeout=60.0))
    caller.service.begin = waits
    number = caller.call(b"x")
    look(caller, 1, 100, 200)
    caller.reset(number)
    look(caller, 201, 255)
    assert caller.farewells == []
    look(caller, 261)
    assert caller.farewells == [FIRST]
    look(caller, 262)
    assert caller.farewells == [FIRST], "said once"


@pytest.mark.parametrize("age", [100.0, 0.0])
async def test_an_old_connection_is_sent_away_if_there_is_an_age(age: float) -> None:
    caller = Caller(House(max_connection_age=age))
    caller.service.begin = waits
    caller.call(b"x")
    look(caller, 1, 99)
    assert caller.farewells == []
    look(caller, 111)  # up to a tenth later, by chance
    assert caller.farewells == ([FIRST] if age else [])
    assert not caller.pipe.end


async def test_connections_that_came_together_do_not_all_go_together() -> None:
    house = House(max_connection_age=100.0)
    callers = [Caller(house) for _ in range(20)]
    for caller in callers:
        look(caller, 105)
    assert 0 < sum(caller.farewells == [FIRST] for caller in callers) < 20


# -- readers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Direct", "Many"])
@pytest.mark.parametrize("why", ["the window", "the system"])
async def test_a_caller_who_takes_nothing_is_cut_alone(why: str, name: str) -> None:
    caller = Caller(House(stall_timeout=30.0))
    caller.grant(1 << 20, 0)
    caller.service.begin = lambda data, reply: reply.answer(bytes(int(data)))
    if why == "the system":
        caller.connection.pause_writing()
    number = caller.call(b"100000", name)
    await turns()
    caller.service.begin = waits
    other = caller.call(b"x")
    look(caller, 0, 15, 29)
    assert caller.answer(number).reset is None
    look(caller, 31)
    assert caller.answer(number).reset == Code.INTERNAL_ERROR
    assert list(caller.streams) == [other]
    assert not caller.pipe.end
    await turns()
    assert (on_the_long_way(caller.house), caller.house.port.waiting) == (0, 0)


async def test_a_caller_who_takes_a_little_is_not_cut() -> None:
    caller = Caller(House(stall_timeout=30.0))
    caller.service.begin = lambda data, reply: reply.answer(bytes(100_000))
    number = caller.call(b"x")
    for after in range(0, 300, 20):
        look(caller, after)
        caller.grant(10, 0, number)
    assert caller.answer(number).reset is None
    caller.grant(100_000, 0, number)
    assert caller.answer(number).code == OK


async def test_a_caller_who_takes_a_stream_slowly_is_not_cut() -> None:
    """However much of it waits when somebody looks: it takes one message, and the next is made."""
    caller = Caller(House(stall_timeout=30.0))
    caller.grant(1 << 20, 0)
    number = caller.call(b" ".join([b"99995"] * 12), "Many")
    await turns()
    for after in range(0, 200, 20):
        look(caller, after)
        caller.grant(100_000, number)
        await turns()
        assert caller.answer(number).reset is None
    caller.grant(1 << 20, 0, number)
    (answer,) = await done(caller, number)
    assert (answer.code, len(answer.messages)) == (OK, 12)


async def test_a_stream_that_caught_up_has_its_whole_time_again() -> None:
    caller = Caller(House(stall_timeout=30.0))
    caller.grant(1 << 20, 0)
    number = caller.begin("Chat")
    caller.data(number, framed(bytes(100_000)))
    await turns()
    look(caller, 0, 29)
    caller.grant(100_000, number)
    await turns()
    look(caller, 40)
    caller.data(number, framed(bytes(200_000)))
    await turns()
    look(caller, 41, 70)
    assert caller.answer(number).reset is None
    look(caller, 72)
    assert caller.answer(number).reset == Code.INTERNAL_ERROR
    await turns()
