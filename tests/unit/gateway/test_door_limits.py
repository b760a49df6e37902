"""What one client may take of the gRPC port, and what becomes of one who takes more."""

import asyncio
from typing import Any

import hpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infermesh.mesh.http2 import frames
from infermesh.mesh.http2.frames import END_HEADERS, Code, Kind
from tests.unit.gateway.door_parts import OK, Caller, House, burst, done, on_the_long_way
from tests.unit.gateway.virtual import run
from tests.unit.mesh.http2_parts import turns


def waits(data: bytes, reply: Any) -> None:
    """Begins a call that is not answered yet."""


# -- calls -------------------------------------------------------------------------------------------------------------


async def test_more_calls_than_a_connection_may_have_are_refused_and_no_others() -> None:
    caller = Caller(House(max_streams=3))
    caller.service.begin = waits
    numbers = [caller.call(b"x") for _ in range(5)]
    assert [caller.answer(number).reset for number in numbers] == [None] * 3 + [Code.REFUSED_STREAM] * 2
    assert len(caller.service.replies) == 3
    caller.service.replies[0].answer(b"done")
    caller.service.begin = lambda data, reply: reply.answer(data)
    assert caller.answer(caller.call(b"next")).code == OK
    assert not caller.pipe.end


async def test_the_client_is_told_how_many_calls_it_may_have() -> None:
    caller = Caller(House(max_streams=77))
    (greeting,) = [each for each in caller.listen() if each.kind == Kind.SETTINGS and not each.flags & frames.ACK]
    assert frames.read_settings(greeting.payload)[frames.Setting.MAX_CONCURRENT_STREAMS] == 77
    assert caller.heard[0] == greeting, "before all else"


@pytest.mark.parametrize("name", ["Direct", "Hang", "Nothing"])
async def test_who_cancels_all_calls_as_soon_as_they_are_made_is_cut(name: str) -> None:
    caller = Caller(House(max_resets=20))
    caller.service.begin = waits
    for _ in range(11):  # more than half of what is allowed
        assert not caller.pipe.end
        caller.reset(caller.begin(name) if name != "Direct" else caller.call(b"x"))
        await turns(1)
    assert [code for _, code in caller.farewells] == [Code.ENHANCE_YOUR_CALM]
    assert (caller.pipe.end, caller.streams) == ("closed", {})
    await turns()
    assert on_the_long_way(caller.house) == 0
    assert all(running.cancelled == 1 for running in caller.service.running)


async def test_half_of_all_calls_may_be_cancelled() -> None:
    caller = Caller(House(max_resets=20))
    for _ in range(50):
        caller.service.begin = lambda data, reply: reply.answer(data)
        caller.call(b"x")
        caller.service.begin = waits
        caller.reset(caller.call(b"x"))
    assert not caller.pipe.end


def test_calls_that_lived_for_a_while_may_all_be_cancelled() -> None:
    async def scenario() -> None:
        caller = Caller(House(max_resets=20))
        caller.service.begin = waits
        for _ in range(30):
            number = caller.call(b"x")
            await asyncio.sleep(1.1)
            caller.reset(number)
        assert not caller.pipe.end

    run(scenario())


# -- floods ------------------------------------------------------------------------------------------------------------

FLOODS: dict[str, bytes] = {
    "pings": frames.frame(Kind.PING, 0, 0, bytes(8)),
    "settings": frames.settings(()),
    "acknowledgements": frames.frame(Kind.SETTINGS, frames.ACK, 0),
    "empty data": frames.frame(Kind.DATA, 0, 1),
    "empty data of no call": frames.frame(Kind.DATA, 0, 99),
    "priorities": frames.frame(Kind.PRIORITY, 0, 1, bytes(5)),
    "resets of no call": frames.rst_stream(99, Code.CANCEL),
}


async def test_settings_are_looked_at_all_calls_for_and_so_count_more() -> None:
    caller = Caller()
    caller.give(*[frames.settings(())] * 99)
    assert not caller.pipe.end
    caller.give(frames.settings(()))
    assert [code for _, code in caller.farewells] == [Code.ENHANCE_YOUR_CALM]


async def test_room_given_byte_by_byte_has_those_that_wait_go_on_once() -> None:
    caller = Caller()
    caller.set(INITIAL_WINDOW_SIZE=1 << 20)
    caller.service.begin = lambda data, reply: reply.answer(bytes(40_000))
    numbers = [caller.call(b"x") for _ in range(4)]
    waiting = [stream for number in numbers if (stream := caller.streams.get(number)) is not None]
    assert len(waiting) == 3, "the connection's window is used up"
    releases = []
    release = caller.connection._release
    caller.connection._release = lambda: (releases.append(1), release())  # type: ignore[method-assign, assignment]
    caller.give(*[frames.window_update(0, 1)] * 500)
    assert len(releases) == 1


@pytest.mark.parametrize("flood", FLOODS)
async def test_a_flood_of_frames_that_are_no_calls_is_cut_off(flood: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infermesh.gateway.door.connection._CHATTER", 100)
    monkeypatch.setattr("infermesh.gateway.door.connection._SETTINGS", 1)
    caller = Caller()
    caller.begin("Hang")
    caller.give(*[FLOODS[flood]] * 99)
    assert not caller.pipe.end
    caller.connection.look(asyncio.get_running_loop().time())
    caller.give(*[FLOODS[flood]] * 100)
    assert not caller.pipe.end, "a hundred between two looks are fine"
    caller.give(FLOODS[flood])
    assert [code for _, code in caller.farewells] == [Code.ENHANCE_YOUR_CALM]
    assert (caller.pipe.end, caller.streams) == ("closed", {})
    await turns()


async def test_who_is_cut_is_told_which_calls_were_looked_at() -> None:
    """Those that were not a client may make elsewhere without asking."""
    caller = Caller()
    caller.service.begin = waits
    numbers = [caller.call(b"x") for _ in range(3)]
    caller.give(frames.frame(Kind.CONTINUATION, 0, 1))
    assert caller.farewells == [(numbers[-1], Code.PROTOCOL_ERROR)]


@pytest.mark.parametrize("size", [0, 1_000])
async def test_headers_that_never_end_are_cut_off(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infermesh.gateway.door.connection._CHATTER", 100)
    caller = Caller()
    caller.give(frames.frame(Kind.HEADERS, 0, 1))
    for _ in range(101):
        if not caller.pipe.end:
            caller.give(frames.frame(Kind.CONTINUATION, 0, 1, bytes(size)))
    assert [code for _, code in caller.farewells] == [Code.ENHANCE_YOUR_CALM]
    assert caller.pipe.end == "closed"


async def test_a_small_block_that_stands_for_a_lot_is_refused() -> None:
    caller, encoder = Caller(), hpack.Encoder()
    first = encoder.encode([(b"x", bytes(4_000))])
    caller.give(frames.frame(Kind.HEADERS, END_HEADERS, 1, first))
    caller.give(frames.frame(Kind.HEADERS, END_HEADERS, 3, encoder.encode([(b"x", bytes(4_000))] * 100)))
    assert [code for _, code in caller.farewells] == [Code.COMPRESSION_ERROR]


# -- who does not speak HTTP/2 -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\nhost: h\r\n\r\n", b"PRI * HTTP/1.1\r\n", b"\x16\x03\x01"])
@pytest.mark.parametrize("cut", [1, 1 << 30])
async def test_a_client_of_something_else_is_told_what_is_spoken(data: bytes, cut: int) -> None:
    caller = Caller(greets=False)
    caller.give(data, cut=cut)
    head, _, body = caller.pipe.sent.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"content-length: %d" % len(body) in head
    assert b"gRPC" in body
    assert caller.pipe.end == "closed"


@pytest.mark.parametrize("cut", [1, 23, 25, 1 << 30])
async def test_the_preface_may_come_in_pieces(cut: int) -> None:
    caller = Caller(greets=False)
    caller.give(frames.PREFACE, frames.settings(()), burst(caller, 1), cut=cut)
    (answer,) = await done(caller, 1)
    assert answer.code == OK


# -- memory ------------------------------------------------------------------------------------------------------------


async def test_the_calls_that_have_most_waiting_are_cut_when_memory_is_short() -> None:
    house = House(room=300_000)
    one, other = Caller(house), Caller(house)
    house.service.begin = lambda data, reply: reply.answer(bytes(int(data)))
    kept = [one.call(b"100000"), other.call(b"150000")]
    large = one.call(b"250000")
    assert one.answer(large).reset == Code.INTERNAL_ERROR
    assert house.port.waiting < 300_000
    for caller, number in zip((one, other), kept, strict=True):
        caller.grant(200_000, 0, number)
        assert caller.answer(number).code == OK
    assert house.port.waiting == 0
    assert not one.streams
    assert not other.streams


async def test_it_is_the_largest_that_goes_not_the_last() -> None:
    house = House(room=300_000)
    one, other = Caller(house), Caller(house)
    house.service.begin = lambda data, reply: reply.answer(bytes(int(data)))
    large, small = one.call(b"300000"), other.call(b"150000")
    assert one.answer(large).reset == Code.INTERNAL_ERROR
    other.grant(200_000, 0, small)
    assert other.answer(small).code == OK
    assert (house.port.waiting, one.pipe.end) == (0, "")


async def test_a_stream_that_is_cut_for_memory_ends_its_handler() -> None:
    caller = Caller(House(room=100_000))
    number = caller.call(b"90000 500000 1", "Many")
    await turns()
    assert caller.answer(number).reset is None
    caller.grant(90_000, 0, number)
    await turns()
    assert caller.answer(number).reset == Code.INTERNAL_ERROR
    assert (on_the_long_way(caller.house), caller.house.port.waiting) == (0, 0)


# -- nonsense ----------------------------------------------------------------------------------------------------------


@settings(max_examples=100)
@given(
    st.lists(
        st.tuples(st.sampled_from(Kind), st.integers(0, 255), st.integers(0, 9), st.binary(max_size=20)), max_size=8
    ),
    st.sampled_from(["Direct", "Chat", "Nothing"]),
)
def test_no_frames_do_harm(sent: list[tuple[Kind, int, int, bytes]], name: str) -> None:
    async def scenario() -> None:
        caller = Caller(house := House())
        caller.begin(name)
        for fields in sent:
            caller.give(frames.frame(*fields))
        await turns()
        caller.lose()
        await turns()
        assert (caller.streams, on_the_long_way(house), house.port.waiting, house.guard.held) == ({}, 0, 0, 0)

    run(scenario())


async def test_requests_that_nobody_reads_are_bounded_for_all_together() -> None:
    house = House(room=1_000_000)
    one, other = Caller(house), Caller(house)
    small, large = one.begin("Deaf"), other.begin("Deaf")
    for caller, number in ((one, small), (other, large)):
        caller.data(number, bytes(100_000))
    await turns()
    assert house.port.kept < 10_000, "a little is read ahead; the guard counts that"
    one.data(small, bytes(300_000))
    other.data(large, bytes(900_000))
    assert other.answer(large).reset == Code.INTERNAL_ERROR
    assert one.answer(small).reset is None
    one.reset(small)
    await turns()
    assert (house.port.kept, one.streams, other.streams) == (0, {}, {})


async def test_calls_and_their_headers_count_though_they_send_nothing() -> None:
    house = House(room=100_000)
    caller = Caller(house)
    numbers = [caller.begin("Hang", (b"x-long", b"x" * 10_000)) for _ in range(10)]
    cut = [number for number in numbers if caller.answer(number).reset == Code.INTERNAL_ERROR]
    assert 1 <= len(cut) <= 3
    assert house.port.kept <= 100_000
    caller.lose()
    assert house.port.kept == 0
