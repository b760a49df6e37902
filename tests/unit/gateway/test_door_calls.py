"""Calls on the gRPC port: what they are answered with, whichever way they go."""

import asyncio
from typing import Any

import pytest

from infermesh.errors import DeadlineExceeded, InvalidInput, Overloaded
from infermesh.mesh.http2 import frames
from infermesh.mesh.http2.frames import END_HEADERS, Code, Kind
from tests.unit.gateway.door_parts import (
    EXHAUSTED,
    INTERNAL,
    INVALID,
    LATE,
    OK,
    UNIMPLEMENTED,
    Caller,
    done,
    on_the_long_way,
)
from tests.unit.gateway_front.wire import framed

_LINGERS = 0.15  # longer than the vigil waits
_HEAD = {b":status": b"200", b"content-type": b"application/grpc"}


# -- the direct way ----------------------------------------------------------------------------------------------------


async def test_a_call_in_one_piece_is_answered_at_once_and_without_a_task() -> None:
    caller = Caller()
    answer = caller.answer(caller.call(b"hello"))
    assert answer.messages == [b"direct hello"]
    assert answer.blocks == [_HEAD, {b"grpc-status": b"0"}]
    assert (answer.code, answer.reset) == (OK, None)
    assert not on_the_long_way(caller.house)
    assert not caller.streams


async def test_an_empty_message_is_a_message() -> None:
    caller = Caller()
    caller.service.begin = lambda data, reply: reply.answer(data)
    answer = caller.answer(caller.call(b""))
    assert (answer.messages, answer.code) == ([b""], OK)


async def test_an_answer_may_be_a_view_and_come_later() -> None:
    caller = Caller()
    caller.service.begin = lambda data, reply: None
    number = caller.call(b"x")
    assert number in caller.streams
    caller.service.replies[0].answer(memoryview(b"later"))
    assert caller.answer(number).messages == [b"later"]
    assert not caller.streams
    assert caller.service.running[0].cancelled == 0


async def test_calls_are_answered_in_any_order() -> None:
    caller = Caller()
    caller.service.begin = lambda data, reply: None
    numbers = [caller.call(b"%d" % place) for place in range(5)]
    for place in (3, 0, 4, 1, 2):
        caller.service.replies[place].answer(b"%d" % place)
    assert [caller.answer(number).messages for number in numbers] == [[b"%d" % place] for place in range(5)]


@pytest.mark.parametrize("later", [False, True], ids=["at once", "later"])
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidInput("grün: 100 %"), INVALID),
        (Overloaded("full"), EXHAUSTED),
        (DeadlineExceeded("late"), LATE),
        (KeyError("secret"), INTERNAL),
    ],
    ids=["a bad request", "overload", "too late", "a fault"],
)
async def test_a_call_fails_with_what_its_handler_raises_or_gives(error: Exception, code: int, later: bool) -> None:
    def begin(data: bytes, reply: Any) -> None:
        if not later:
            raise error

    caller = Caller()
    caller.service.begin = begin
    number = caller.call(b"x")
    if later:
        caller.service.replies[0].fail(error)
    answer = caller.answer(number)
    assert (answer.code, answer.messages, len(answer.blocks)) == (code, [], 1)
    assert answer.blocks[0].items() >= _HEAD.items()
    assert b"grpc-status-details-bin" in answer.blocks[0]
    assert "secret" not in answer.text
    assert code == INTERNAL or answer.text == str(error)
    assert (answer.reset, caller.streams) == (None, {})


async def test_one_failure_leaves_the_other_calls_alone() -> None:
    def begin(data: bytes, reply: Any) -> None:
        if data == b"bad":
            raise InvalidInput("bad")
        reply.answer(data)

    caller = Caller()
    caller.service.begin = begin
    numbers = [caller.call(data) for data in (b"good", b"bad", b"good")]
    assert [caller.answer(number).code for number in numbers] == [OK, INVALID, OK]


async def test_the_deadline_counts_from_when_the_call_began() -> None:
    caller = Caller()
    before = asyncio.get_running_loop().time()
    caller.call(b"x", "Direct", (b"grpc-timeout", b"5S"))
    caller.call(b"x")
    assert before + 5 <= caller.service.replies[0].deadline <= asyncio.get_running_loop().time() + 5
    assert caller.service.replies[1].deadline is None


async def test_a_malformed_timeout_is_told_before_the_request_has_come() -> None:
    caller = Caller()
    number = caller.begin("Direct", (b"grpc-timeout", b"soon"))
    answer = caller.answer(number)
    assert answer.code == INVALID
    assert "grpc-timeout" in answer.text
    assert answer.reset == Code.NO_ERROR, "the rest of the request is of no use"
    caller.data(number, framed(b"x"), end=True)
    assert not caller.service.replies
    assert caller.answer(caller.call(b"next")).code == OK


async def test_the_handler_sees_the_headers() -> None:
    caller = Caller()
    caller.call(b"x", "Direct", (b"x-request-id", b"abc"))
    assert caller.service.replies[0].known[b"x-request-id"] == b"abc"


async def test_headers_keep_their_order_and_their_doubles_on_the_long_way() -> None:
    caller = Caller()
    number, block = caller.headers("Unary")
    pairs = [(b"tag", b"b"), (b"other", b"x"), (b"tag", b"a")]
    block += b"".join(frames.literal(*pair) for pair in pairs)
    caller.give(frames.frame(Kind.HEADERS, END_HEADERS, number, block))
    caller.data(number, framed(b"x"), end=True)
    await done(caller, number)
    assert caller.service.contexts[0].metadata() == [("tag", "b"), ("other", "x"), ("tag", "a")]


@pytest.mark.parametrize("name", ["Nothing", "Direct/"])
async def test_an_unknown_method_is_refused(name: str) -> None:
    caller = Caller()
    (answer,) = await done(caller, caller.call(b"x", name))
    assert answer.code == UNIMPLEMENTED
    assert "unknown" in answer.text


async def test_an_unknown_method_is_refused_before_the_request_has_come() -> None:
    caller = Caller()
    number = caller.begin("Nothing")
    (answer,) = await done(caller, number)
    assert (answer.code, answer.reset, caller.streams) == (UNIMPLEMENTED, Code.NO_ERROR, {})


@pytest.mark.parametrize(
    "field",
    [(b"content-type", b"application/json"), (b"content-type", b"application/grpc-web"), (b":method", b"GET")],
    ids=["JSON", "gRPC-Web", "GET"],
)
async def test_what_is_not_grpc_is_told_what_is(field: tuple[bytes, bytes]) -> None:
    caller = Caller()
    number = caller.begin("Direct", field)
    answer = caller.answer(number)
    assert (answer.blocks[0][b":status"], answer.ended, answer.reset) == (b"415", True, Code.NO_ERROR)
    assert b"gRPC" in b"".join(answer.pieces)
    caller.data(number, b"{}", end=True)
    assert not caller.service.replies
    assert not caller.streams


@pytest.mark.parametrize("kind", [b"application/grpc+proto", b"application/grpc;charset=utf-8"])
async def test_all_that_means_grpc_is_taken(kind: bytes) -> None:
    caller = Caller()
    (answer,) = await done(caller, caller.call(b"x", "Direct", (b"content-type", kind)))
    assert answer.code == OK
