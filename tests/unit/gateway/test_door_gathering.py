"""What many calls on the gRPC port say at once leaves in one piece, in order, and none of it is lost."""

from typing import Any

import pytest

from infermesh.mesh.http2 import frames
from infermesh.mesh.http2.frames import Code, Kind
from tests.unit.gateway.door_parts import OK, Caller, done
from tests.unit.mesh.http2_parts import turns


def begun(count: int) -> tuple[Caller, list[int], list[Any]]:
    """Returns calls that wait for their answers, and where these go."""
    caller = Caller()
    caller.set(INITIAL_WINDOW_SIZE=1 << 20, MAX_FRAME_SIZE=1 << 20)
    caller.grant(1 << 24, 0)
    caller.service.begin = lambda data, reply: None
    numbers = [caller.call(b"x") for _ in range(count)]
    caller.connection._flush()
    caller.pipe.writes = 0
    return caller, numbers, caller.service.replies


async def test_a_call_by_itself_is_answered_at_once() -> None:
    caller, (number,), (reply,) = begun(1)
    reply.answer(b"one")
    assert caller.pipe.writes == 1
    assert caller.answer(number).code == OK


async def test_answers_that_come_together_leave_together_in_the_next_turn() -> None:
    caller, numbers, replies = begun(5)
    before = caller.pipe.sent
    for reply in replies:
        reply.answer(b"one")
    assert caller.pipe.sent == before
    await turns(1)
    assert caller.pipe.writes == 1
    sent = caller.pipe.sent
    assert [answer.code for answer in await done(caller, *numbers)] == [OK] * 5
    assert caller.pipe.sent == sent


async def test_much_does_not_wait_and_takes_along_what_does() -> None:
    caller, numbers, replies = begun(3)
    replies[0].answer(b"small")
    replies[1].answer(bytes(100_000))
    assert len(caller.pipe.sent) > 100_000
    replies[2].answer(b"small")
    answers = await done(caller, *numbers)
    assert [len(answer.messages[0]) for answer in answers] == [5, 100_000, 5]
    ends = [each.stream for each in caller.heard if each.kind == Kind.HEADERS and each.flags & frames.END_STREAM]
    assert ends == numbers


async def test_a_lot_of_little_does_not_wait_either() -> None:
    caller, _, replies = begun(100)
    before = len(caller.pipe.sent)
    for reply in replies:
        reply.answer(bytes(10_000))
    assert 500_000 < len(caller.pipe.sent) - before < 1_000_000
    await turns(1)
    assert len(caller.pipe.sent) - before > 1_000_000


async def test_what_waits_is_sent_before_the_connection_is_closed() -> None:
    caller, numbers, replies = begun(3)
    replies[0].answer(b"one")
    caller.give(frames.frame(Kind.CONTINUATION, 0, 1))
    assert caller.pipe.end == "closed"
    assert caller.answer(numbers[0]).messages == [b"one"]
    assert [code for _, code in caller.farewells] == [Code.PROTOCOL_ERROR]


@pytest.mark.parametrize("end", ["lost", "aborted"])
async def test_what_waits_when_the_connection_is_gone_is_dropped(end: str) -> None:
    caller, _, replies = begun(3)
    before = caller.pipe.sent
    replies[0].answer(b"one")
    caller.lose() if end == "lost" else caller.connection.abort("enough")
    await turns()
    assert caller.pipe.sent == before
