"""Requests on the gRPC port: in pieces, late, compressed, in streams, or without sense."""

import asyncio
import gzip

import pytest

from infermesh.gateway.door.body import WINDOW
from infermesh.gateway.framing import frames as messages
from infermesh.mesh.http2 import frames
from infermesh.mesh.http2.frames import END_HEADERS, END_STREAM, Code, Kind
from tests.unit.gateway.door_parts import (
    EXHAUSTED,
    INTERNAL,
    LARGEST,
    LATE,
    OK,
    UNIMPLEMENTED,
    Caller,
    House,
    done,
    on_the_long_way,
)
from tests.unit.gateway.virtual import run
from tests.unit.gateway_front.wire import framed
from tests.unit.mesh.http2_parts import turns

_LINGERS = 0.15  # longer than the vigil waits


# -- requests in pieces ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Direct", "Unary"])
@pytest.mark.parametrize("frame_size", [1, 7, 1 << 14])
@pytest.mark.parametrize("cut", [1, 9, 10, 1 << 30])
async def test_a_request_may_come_in_any_pieces(name: str, frame_size: int, cut: int) -> None:
    caller, data = Caller(greets=False), framed(b"hello, you!")
    number, block = caller.headers(name)
    pieces = [data[at : at + frame_size] for at in range(0, len(data), frame_size)]
    sent = [frames.frame(Kind.DATA, END_STREAM * (piece is pieces[-1]), number, piece) for piece in pieces]
    head = frames.frame(Kind.HEADERS, 0, number, block[:20]) + frames.frame(
        Kind.CONTINUATION, END_HEADERS, number, block[20:]
    )
    caller.give(frames.PREFACE, frames.settings(()), head, *sent, cut=cut)
    (answer,) = await done(caller, number)
    assert answer.code == OK
    assert answer.messages in ([b"direct hello, you!"], [b"long hello, you!"])
    assert not caller.streams


@pytest.mark.parametrize("how", ["an empty frame", "trailers"])
async def test_the_end_of_a_request_may_come_by_itself(how: str) -> None:
    caller = Caller()
    number = caller.begin()
    caller.data(number, framed(b"hello"))
    await turns()
    if how == "trailers":
        block = frames.literal(b"checksum", b"1")
        caller.give(frames.frame(Kind.HEADERS, END_HEADERS | END_STREAM, number, block))
    else:
        caller.data(number, b"", end=True)
    (answer,) = await done(caller, number)
    assert (answer.code, answer.messages) == (OK, [b"direct hello"])


async def test_padding_is_no_part_of_a_message() -> None:
    caller = Caller()
    number, data = caller.begin(), framed(b"hello")
    caller.give(frames.frame(Kind.DATA, END_STREAM | frames.PADDED, number, b"\3" + data + bytes(3)))
    assert caller.answer(number).messages == [b"direct hello"]


def test_a_request_that_comes_much_later_than_its_headers_goes_the_long_way() -> None:
    async def scenario() -> None:
        caller = Caller()
        number = caller.begin()
        await asyncio.sleep(0.01)
        assert not on_the_long_way(caller.house)
        await asyncio.sleep(_LINGERS)
        assert on_the_long_way(caller.house) == 1
        await asyncio.sleep(5)
        caller.data(number, framed(b"hello"), end=True)
        (answer,) = await done(caller, number)
        assert (answer.code, answer.messages) == (OK, [b"long hello"])
        assert (on_the_long_way(caller.house), caller.streams) == (0, {})

    run(scenario())


def test_a_request_that_comes_a_little_later_is_answered_directly_all_the_same() -> None:
    async def scenario() -> None:
        caller = Caller()
        caller.service.begin = lambda data, reply: None
        number = caller.begin()
        await asyncio.sleep(0.02)
        caller.data(number, framed(b"hello"), end=True)
        await asyncio.sleep(5)
        assert not on_the_long_way(caller.house)
        caller.service.replies[0].answer(b"done")
        assert caller.answer(number).messages == [b"done"]

    run(scenario())


def test_a_request_that_never_comes_is_given_up() -> None:
    async def scenario() -> None:
        caller = Caller()
        number = caller.begin()
        await asyncio.sleep(caller.house.guard.limits.body_timeout + 1)
        (answer,) = await done(caller, number)
        assert (answer.code, answer.reset, caller.streams) == (LATE, Code.NO_ERROR, {})

    run(scenario())


async def test_a_compressed_request_is_understood() -> None:
    caller, data = Caller(), gzip.compress(b"hello", mtime=0)
    number = caller.begin("Direct", (b"grpc-encoding", b"gzip"))
    caller.data(number, b"\1" + len(data).to_bytes(4, "big") + data, end=True)
    (answer,) = await done(caller, number)
    assert (answer.code, answer.messages) == (OK, [b"long hello"])


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\1\0\0\0\0", INTERNAL),
        (b"\0\0\0\0\5abc", INTERNAL),
        (b"\0" + (LARGEST + 1).to_bytes(4, "big") + b"abc", EXHAUSTED),
        (framed(b"one", b"two"), UNIMPLEMENTED),
        (b"", UNIMPLEMENTED),
    ],
    ids=["compressed with nothing", "broken off", "too large", "two messages", "no message"],
)
async def test_a_request_that_makes_no_sense_is_refused(data: bytes, code: int) -> None:
    caller = Caller()
    number = caller.begin()
    caller.data(number, data, end=True)
    (answer,) = await done(caller, number)
    assert answer.code == code
    assert not caller.service.replies
    assert not caller.streams


async def test_a_request_that_ends_with_its_headers_has_no_message() -> None:
    caller = Caller()
    (answer,) = await done(caller, caller.begin(end=True))
    assert answer.code == UNIMPLEMENTED
    assert "got none" in answer.text


async def test_what_comes_after_the_end_of_a_request_is_dropped() -> None:
    caller = Caller()
    caller.service.begin = lambda data, reply: None
    number = caller.call(b"x")
    caller.data(number, framed(b"more"), end=True)
    caller.service.replies[0].answer(b"one")
    caller.data(number, framed(b"even more"))
    assert caller.answer(number).messages == [b"one"]
    assert len(caller.service.replies) == 1


# -- streams -----------------------------------------------------------------------------------------------------------


async def test_many_messages_go_out() -> None:
    caller = Caller()
    (answer,) = await done(caller, caller.call(b"1 0 300", "Many"))
    assert (answer.code, answer.messages) == (OK, [bytes(1), b"", bytes(300)])


@pytest.mark.parametrize(("words", "code"), [(b"a b c", OK), (b"a b !", INTERNAL)], ids=["whole", "failing"])
async def test_what_is_pushed_goes_out_in_order(words: bytes, code: int) -> None:
    caller = Caller()
    (answer,) = await done(caller, caller.call(words, "Push"))
    assert (answer.code, answer.messages) == (code, [word for word in words.split() if word != b"!"])


async def test_many_messages_come_in() -> None:
    caller = Caller()
    number = caller.begin("Collect")
    for word in (b"a", b"", b"c"):
        caller.data(number, framed(word))
        await turns()
    caller.data(number, b"", end=True)
    (answer,) = await done(caller, number)
    assert (answer.code, answer.messages) == (OK, [b"a++c"])


async def test_both_sides_may_speak_in_turn() -> None:
    caller = Caller()
    number = caller.begin("Chat")
    for place, word in enumerate([b"hi", b"there"]):
        caller.data(number, framed(word))
        await turns()
        assert caller.answer(number).messages[place] == b"you said " + word
    caller.data(number, b"", end=True)
    (answer,) = await done(caller, number)
    assert (answer.code, len(answer.messages), caller.streams) == (OK, 2, {})


def test_a_call_on_the_long_way_ends_at_its_deadline() -> None:
    async def scenario() -> None:
        caller = Caller()
        number = caller.call(b"x", "Hang", (b"grpc-timeout", b"2S"))
        await asyncio.sleep(1.9)
        assert not caller.answer(number).ended
        await asyncio.sleep(0.2)
        assert (caller.answer(number).code, caller.service.cancelled) == (LATE, 1)

    run(scenario())


def test_standing_calls_end_when_the_front_closes() -> None:
    async def scenario() -> None:
        caller = Caller(house := House())
        number = caller.call(b"x", "Stand")
        await turns()
        assert caller.answer(number).messages == [b"still"]
        house.front.close()
        (answer,) = await done(caller, number)
        assert answer.code == 14

    run(scenario())


def test_gzip_is_spoken_back_to_who_understands_it() -> None:
    async def scenario() -> None:
        caller = Caller()
        zeros = messages.encode(bytes(100_000), b"gzip")
        speaks = (b"grpc-encoding", b"gzip"), (b"grpc-accept-encoding", b"gzip, identity")
        number = caller.begin("Unary", *speaks)
        caller.data(number, zeros, end=True)
        (answer,) = await done(caller, number)
        assert answer.blocks[0][b"grpc-encoding"] == b"gzip"
        assert gzip.decompress(answer.messages[0]) == b"long " + bytes(100_000)

    run(scenario())


@pytest.mark.parametrize(("size", "way"), [(WINDOW - 20, b"direct"), (WINDOW, b"long")])
async def test_a_request_in_many_frames_needs_no_task_if_the_window_has_room_for_it(size: int, way: bytes) -> None:
    caller = Caller(House())
    caller.set(INITIAL_WINDOW_SIZE=2 * WINDOW)
    caller.grant(2 * WINDOW, 0)
    number, body = caller.begin(), framed(bytes(size))
    for at in range(0, min(WINDOW, len(body)), 16_000):
        caller.data(number, body[at : min(WINDOW, at + 16_000)])
    await turns()
    caller.data(number, body[WINDOW:], end=True)
    (answer,) = await done(caller, number)
    assert (answer.code, answer.messages) == (OK, [way + b" " + bytes(size)])
    assert (caller.house.port.kept, caller.house.guard.held) == (0, 0)


async def test_a_request_that_stops_within_goes_the_long_way_with_what_there_is() -> None:
    caller = Caller()
    number, body = caller.begin(), framed(bytes(40_000))
    caller.data(number, body[:16_000])
    caller.streams[number].linger()
    caller.data(number, body[16_000:], end=True)
    (answer,) = await done(caller, number)
    assert (answer.code, answer.messages) == (OK, [b"long " + bytes(40_000)])
    assert caller.house.port.kept == 0


async def test_who_goes_away_within_a_request_leaves_nothing_behind() -> None:
    caller = Caller()
    number = caller.begin()
    caller.data(number, framed(bytes(40_000))[:16_000])
    assert caller.house.port.kept > 16_000
    caller.reset(number)
    assert (caller.house.port.kept, caller.streams) == (0, {})


async def test_a_request_byte_by_byte_takes_no_more_memory_than_its_bytes() -> None:
    caller = Caller()
    number, body = caller.begin(), framed(bytes(20_000))
    for at in range(len(body) - 1):
        caller.data(number, body[at : at + 1])
    assert len(caller.streams[number]._body._chunks) <= len(body) // 4_096 + 1
    caller.data(number, body[-1:], end=True)
    (answer,) = await done(caller, number)
    assert answer.code == OK
