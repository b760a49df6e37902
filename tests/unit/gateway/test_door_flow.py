"""Flow control on the gRPC port: no more goes out than the client takes, and all that may; what comes in likewise."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infermesh.gateway.door.body import WINDOW
from infermesh.gateway.door.call import DoorCall
from infermesh.mesh.http2 import frames
from infermesh.mesh.http2.frames import FIRST_WINDOW, FRAME_SIZE, Code, Kind
from tests.unit.gateway.door_parts import OK, Caller, done
from tests.unit.gateway.virtual import run
from tests.unit.gateway_front.wire import framed
from tests.unit.mesh.http2_parts import turns

NAMES = pytest.mark.parametrize("name", ["Direct", "Unary", "Many", "Chat"])


async def large(caller: Caller, size: int, name: str = "Direct") -> tuple[int, bytes]:
    """Makes a call; returns its number, and the body of its answer of `size` bytes or a few more."""
    if name == "Many":
        number, wanted = caller.call(b"%d" % size, name), bytes(size)
    elif name == "Direct":
        wanted = bytes(size)
        caller.service.begin = lambda data, reply: reply.answer(wanted)
        number = caller.call(b"x", name)
    else:
        number = caller.call(bytes(size), name)
        wanted = (b"long " if name == "Unary" else b"you said ") + bytes(size)
    await turns()
    return number, framed(wanted)


def got(caller: Caller, number: int) -> int:
    """Returns how many bytes have come on a stream."""
    return sum(map(len, caller.answer(number).pieces))


@NAMES
async def test_an_answer_larger_than_a_frame_goes_out_in_several(name: str) -> None:
    caller = Caller()
    number, body = await large(caller, 40_000, name)
    (answer,) = await done(caller, number)
    assert b"".join(answer.pieces) == body
    assert max(map(len, answer.pieces)) == FRAME_SIZE
    assert answer.code == OK


async def test_a_client_may_take_larger_frames() -> None:
    caller = Caller()
    caller.set(MAX_FRAME_SIZE=1 << 17, INITIAL_WINDOW_SIZE=1 << 20)
    caller.grant(1 << 20, 0)
    number, body = await large(caller, 100_000)
    assert caller.answer(number).pieces == [body]


@NAMES
@pytest.mark.parametrize("of", ["the stream", "the connection"])
async def test_an_answer_waits_for_the_windows(of: str, name: str) -> None:
    caller = Caller()
    if of == "the connection":
        caller.set(INITIAL_WINDOW_SIZE=1 << 20)
    else:
        caller.grant(1 << 20, 0)
    number, body = await large(caller, 100_000, name)
    assert got(caller, number) == FIRST_WINDOW
    assert caller.house.port.waiting == len(body) - FIRST_WINDOW
    caller.grant(10_000, 0 if of == "the connection" else number)
    assert got(caller, number) == FIRST_WINDOW + 10_000
    assert not caller.answer(number).ended
    caller.grant(100_000, 0 if of == "the connection" else number)
    (answer,) = await done(caller, number)
    assert (b"".join(answer.pieces), answer.code) == (body, OK)
    assert (caller.house.port.waiting, caller.streams) == (0, {})


async def test_a_call_that_waits_holds_up_no_other() -> None:
    caller = Caller()
    caller.grant(1 << 20, 0)
    first, _ = await large(caller, 100_000)
    caller.service.begin = lambda data, reply: reply.answer(data)
    assert caller.answer(caller.call(b"next")).messages == [b"next"]
    assert not caller.answer(first).ended


async def test_small_answers_use_up_the_window_of_the_connection_too() -> None:
    caller = Caller()
    caller.service.begin = lambda data, reply: reply.answer(bytes(995))
    numbers = [caller.call(b"x") for _ in range(100)]
    assert sum(got(caller, number) for number in numbers) == FIRST_WINDOW
    caller.grant(100_000 - FIRST_WINDOW, 0)
    assert [caller.answer(number).code for number in numbers] == [OK] * 100
    assert caller.connection.window == 0


async def test_only_calls_that_may_go_on_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    caller = Caller()
    caller.grant(1 << 20, 0)
    numbers = [(await large(caller, 100_000))[0] for _ in range(10)]
    looked, go_on = list[int](), DoorCall.go_on

    def noted(call: DoorCall) -> None:
        looked.append(call.number)
        go_on(call)

    monkeypatch.setattr(DoorCall, "go_on", noted)
    caller.grant(1, numbers[3])
    caller.grant(1, 0)
    assert looked == [numbers[3]], "none of them waits for the connection"


@pytest.mark.parametrize("name", ["Direct", "Many"])
async def test_the_first_window_may_change_on_the_way(name: str) -> None:
    caller = Caller()
    caller.grant(1 << 20, 0)
    caller.set(INITIAL_WINDOW_SIZE=10_000)
    number, body = await large(caller, 100_000, name)
    assert got(caller, number) == 10_000
    caller.set(INITIAL_WINDOW_SIZE=30_000)
    assert got(caller, number) == 30_000
    caller.set(INITIAL_WINDOW_SIZE=5_000)  # now the window is below zero
    caller.grant(20_000, number)
    assert got(caller, number) == 30_000
    caller.grant(10_000, number)
    assert got(caller, number) == 35_000
    caller.set(INITIAL_WINDOW_SIZE=200_000)
    (answer,) = await done(caller, number)
    assert b"".join(answer.pieces) == body
    assert caller.count(Kind.SETTINGS) == 1 + 5, "the greeting, and each is acknowledged"


async def test_a_direct_answer_waits_while_the_system_takes_nothing() -> None:
    caller = Caller()
    caller.connection.pause_writing()
    numbers = [caller.call(b"%d" % place) for place in range(3)]
    assert [got(caller, number) for number in numbers] == [0, 0, 0]
    caller.connection.resume_writing()
    assert [caller.answer(number).messages for number in numbers] == [[b"direct %d" % place] for place in range(3)]
    assert not caller.streams


async def test_a_stream_makes_its_handler_wait_while_the_system_takes_nothing() -> None:
    caller = Caller()
    caller.connection.pause_writing()
    number = caller.call(b"1 2 3", "Many")
    await turns()
    assert caller.house.port.waiting == len(framed(b"1")), "the second message is not made yet"
    caller.connection.resume_writing()
    (answer,) = await done(caller, number)
    assert answer.messages == [bytes(1), bytes(2), bytes(3)]


async def test_what_is_pushed_waits_at_its_source() -> None:
    caller = Caller()
    caller.grant(1 << 20, 0)
    caller.set(INITIAL_WINDOW_SIZE=1)
    number = caller.call(b"a b c d", "Push")
    await turns()
    assert got(caller, number) == 1
    assert caller.house.port.waiting <= 2 * len(framed(b"a"))
    caller.set(INITIAL_WINDOW_SIZE=1_000)
    (answer,) = await done(caller, number)
    assert answer.messages == [b"a", b"b", b"c", b"d"]


GRANTS = st.lists(
    st.tuples(st.sampled_from(["stream", "connection", "first", "pause", "resume"]), st.integers(1, 40_000)),
    max_size=12,
)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(["Direct", "Many"]), st.integers(0, 50_000)), min_size=1, max_size=4), GRANTS)
def test_no_more_goes_out_than_the_client_takes_and_in_the_end_all(
    calls: list[tuple[str, int]], grants: list[tuple[str, int]]
) -> None:
    async def scenario() -> None:
        caller, bodies = Caller(), dict[int, bytes]()
        whole = first = FIRST_WINDOW
        given: dict[int, int] = {}
        for name, size in calls:
            number, bodies[number] = await large(caller, size, name)
            given[number] = 0
        most = first
        for action, octets in [*grants, ("resume", 0), ("first", 1_000_000), ("connection", 1_000_000)]:
            if action == "stream":
                given[1] += octets
                caller.grant(octets, 1)
            elif action == "connection":
                whole += octets
                caller.grant(octets, 0)
            elif action == "first":
                first, most = octets, max(most, octets)
                caller.set(INITIAL_WINDOW_SIZE=first)
            elif action == "pause":
                caller.connection.pause_writing()
            elif caller.connection.paused:
                caller.connection.resume_writing()
            await turns(20)
            assert sum(got(caller, number) for number in bodies) <= whole
            assert all(got(caller, number) <= most + given[number] for number in bodies)
        for number, answer in zip(bodies, await done(caller, *bodies), strict=True):
            assert (b"".join(answer.pieces), answer.code) == (bodies[number], OK)
        assert (caller.house.port.waiting, caller.streams) == (0, {})

    run(scenario())


# -- what comes in -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Direct", "Collect"])
def test_room_for_a_large_request_is_given_as_it_is_read(name: str) -> None:
    async def scenario() -> None:
        caller, size = Caller(), 3 << 20
        caller.set(INITIAL_WINDOW_SIZE=2 * size)
        caller.grant(2 * size, 0)
        number, left, sent = caller.begin(name), framed(bytes(size)), 0
        while left:
            room = min(FRAME_SIZE, WINDOW + caller.granted(number) - sent)
            if not room:
                await asyncio.sleep(0.01)
                assert WINDOW + caller.granted(number) > sent, "it stalls"
                continue
            piece, left = left[:room], left[room:]
            caller.data(number, piece, end=not left)
            sent += room
        (answer,) = await done(caller, number)
        assert (answer.code, len(answer.messages[0])) == (OK, size + (len(b"long ") if name == "Direct" else 0))

    run(scenario())


async def test_room_of_the_connection_is_given_back_for_all_that_came() -> None:
    caller, sent = Caller(), 0
    greeted = caller.granted(0)
    caller.service.begin = lambda data, reply: reply.answer(b"")
    megabyte = framed(bytes((1 << 20) - 5))
    while sent < 48 << 20:
        assert sent + len(megabyte) <= FIRST_WINDOW + caller.granted(0), "it stalls"
        caller.call(megabyte[5:])
        caller.data(999, megabyte)  # of a call that is not there
        sent += 2 * len(megabyte)
    assert caller.granted(0) - greeted == sent


@pytest.mark.parametrize("end", ["late", "cancelled"])
def test_room_is_given_back_for_what_nobody_has_read(end: str) -> None:
    async def scenario() -> None:
        caller = Caller()
        for _ in range(20):
            number = caller.begin("Mute", (b"grpc-timeout", b"1S"))
            for _ in range(WINDOW // FRAME_SIZE):
                caller.data(number, bytes(FRAME_SIZE))
                await turns(2)
            if end == "cancelled":
                caller.reset(number)
            await asyncio.sleep(2)
            assert not caller.streams
        assert not caller.pipe.end
        assert caller.granted(0) > 20 * WINDOW

    run(scenario())


@pytest.mark.parametrize("of", ["a call", "the connection", "a call without a method"])
async def test_who_sends_more_than_there_is_room_for_is_cut(of: str) -> None:
    caller = Caller()
    numbers = [
        caller.begin("Nothing" if of == "a call without a method" else "Deaf") for _ in range(1 if "call" in of else 20)
    ]
    for _ in range((WINDOW >> 14) + 1):
        for number in numbers:
            caller.data(number, bytes(FRAME_SIZE))
    assert caller.farewells[-1][1] == Code.FLOW_CONTROL_ERROR
    assert caller.pipe.end == "closed"
    assert not caller.streams
    await turns()


async def test_a_window_beyond_its_bound_ends_the_connection() -> None:
    caller = Caller()
    number = caller.begin()
    caller.give(2 * frames.window_update(number, 2**31 - 1))
    assert [code for _, code in caller.farewells] == [Code.FLOW_CONTROL_ERROR]
    assert caller.house.connections == {caller.connection}
