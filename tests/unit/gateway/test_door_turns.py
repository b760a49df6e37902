"""One client's many calls on the gRPC port let those of others have their turn, and none is lost by that."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infermesh.mesh.http2 import frames
from infermesh.mesh.http2.frames import Code, Kind
from tests.unit.gateway.door_parts import OK, Caller, House, burst, done, on_the_long_way
from tests.unit.gateway.virtual import run
from tests.unit.mesh.http2_parts import turns


def waits(data: bytes, reply: Any) -> None:
    """Begins a call that is not answered yet."""


async def test_of_many_calls_some_wait_for_the_next_turn() -> None:
    caller, seen = Caller(House(calls_at_once=4)), list[tuple[int, bool]]()
    caller.give(burst(caller, 10))
    for _ in range(4):
        seen.append((len(caller.service.replies), caller.pipe.reading))
        await turns(1)
    assert seen == [(4, False), (8, False), (10, True), (10, True)]
    assert [reply.number for reply in caller.service.replies] == list(range(1, 21, 2))


async def test_another_connection_has_its_turn_in_between() -> None:
    house = House(calls_at_once=2)
    greedy, other = Caller(house), Caller(house)
    greedy.give(burst(greedy, 6))
    other.call(b"other")
    await turns()
    assert len(house.service.replies) == 7
    assert [place for place, reply in enumerate(house.service.replies) if reply._wire is other.connection] == [2]


@pytest.mark.parametrize("cut", [37, 1_000, 1 << 30])
@pytest.mark.parametrize("deaf", [False, True], ids=["", "though more was read already"])
async def test_no_call_is_lost_and_the_order_is_kept_while_reading_rests(deaf: bool, cut: int) -> None:
    caller, order = Caller(House(calls_at_once=3)), list[bytes]()

    def begin(data: bytes, reply: Any) -> None:
        order.append(data)
        reply.answer(data)

    caller.service.begin = begin
    if deaf:
        caller.pipe.pause_reading = lambda: None  # type: ignore[method-assign]
    caller.give(burst(caller, 50), cut=cut)
    answers = await done(caller, *range(1, 101, 2))
    assert order == sorted(order, key=int)
    assert [answer.code for answer in answers] == [OK] * 50
    assert [answer.messages[0].rpartition(b" ")[2] for answer in answers] == [b"%d" % place for place in range(50)]
    assert caller.pipe.reading


async def test_what_follows_a_call_that_waits_for_its_turn_waits_too() -> None:
    caller = Caller(House(calls_at_once=1))
    caller.service.begin = waits
    sent = burst(caller, 3)
    caller.give(sent, frames.rst_stream(3, Code.CANCEL), frames.frame(Kind.PING, 0, 0, b"12345678"))
    assert caller.count(Kind.PING) == 0
    await turns()
    assert [running.cancelled for running in caller.service.running] == [0, 1, 0]
    assert caller.count(Kind.PING) == 1


async def test_a_fault_among_what_has_waited_ends_the_connection() -> None:
    caller = Caller(House(calls_at_once=1))
    caller.give(burst(caller, 2), frames.frame(Kind.CONTINUATION, 0, 1))
    assert not caller.pipe.end
    await turns()
    assert [code for _, code in caller.farewells] == [Code.PROTOCOL_ERROR]


@pytest.mark.parametrize("end", ["lost", "closed"])
async def test_a_connection_that_ends_while_calls_wait_for_their_turn(end: str) -> None:
    caller = Caller(House(calls_at_once=1))
    caller.give(burst(caller, 5))
    caller.lose() if end == "lost" else caller.connection.close()
    await turns()
    assert len(caller.service.replies) == 1


@settings(max_examples=100)
@given(
    st.lists(st.sampled_from(["Direct", "Unary", "Collect"]), max_size=12),
    st.integers(1, 5),
    st.sampled_from([1 << 30, 100, 11]),
)
def test_however_calls_come_each_is_answered(names: list[str], at_once: int, cut: int) -> None:
    async def scenario() -> None:
        caller = Caller(House(calls_at_once=at_once))
        caller.give(*(burst(caller, 1, name) for name in names), cut=cut)
        numbers = range(1, 2 * len(names), 2)
        answers = await done(caller, *numbers)
        assert [answer.code for answer in answers] == [OK] * len(names)
        await turns()
        assert (caller.streams, on_the_long_way(caller.house)) == ({}, 0)

    run(scenario())
