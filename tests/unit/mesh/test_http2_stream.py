"""A call on an HTTP/2 connection of ours, both ends of it in memory."""

import asyncio
from collections.abc import Callable

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infermesh.mesh.http2 import frames
from infermesh.mesh.http2.client import failure
from infermesh.mesh.http2.frames import Bytes, Code, Kind, Setting
from infermesh.mesh.http2.life import Life
from infermesh.mesh.http2.server import RESPONSE, trailers
from infermesh.mesh.http2.stream import Stream
from tests.unit.gateway.virtual import run
from tests.unit.mesh.http2_parts import CALM, PATH, Heard, Pair, turns

OK = trailers(grpc.StatusCode.OK)


async def begun(pair: Pair) -> tuple[Stream, Heard, Stream, Heard]:
    """Begins a call; returns both ends, each with what is heard there."""
    ours, heard = pair.call()
    await turns()
    ((theirs, there),) = pair.calls
    theirs.send_headers(RESPONSE)
    await turns()
    return ours, heard, theirs, there


async def test_a_call_runs_from_its_headers_to_its_trailers() -> None:
    pair = Pair()
    ours, heard, theirs, there = await begun(pair)
    assert there.fields[0][b":path"] == PATH.encode()
    assert heard.fields == [dict(RESPONSE)]
    ours.send(b"one")
    ours.send(b"t", b"", b"wo")
    theirs.send(b"")
    ours.finish()
    await turns()
    assert (there.messages, there.over) == ([b"one", b"two"], 1)
    theirs.finish(OK)
    await turns()
    assert (heard.messages, heard.over, failure(heard.fields[-1])) == ([b""], 1, "")
    assert not pair.client.streams
    assert not pair.server.streams
    assert (heard.why, there.why) == ("", "")


@settings(max_examples=40)
@given(
    messages=st.lists(st.binary(max_size=200_000) | st.integers(0, 400_000).map(bytes), max_size=8),
    cut=st.sampled_from([1 << 30, 70_000, 9_999]),
    window=st.sampled_from([1, 65_535, 2**31 - 1]),
    size=st.sampled_from([16_384, 2**24 - 1]),
)
def test_messages_arrive_whole_and_in_order_whatever_the_windows(
    messages: list[bytes], cut: int, window: int, size: int
) -> None:
    async def scenario() -> None:
        pair = Pair(cut)
        ours, _, theirs, there = await begun(pair)
        # as the other end's settings: its window for each stream, its largest frame
        values = ((Setting.INITIAL_WINDOW_SIZE, window), (Setting.MAX_FRAME_SIZE, size))
        pair.client.data_received(frames.settings(values))
        for message in messages:
            ours.send(message)
        ours.finish()
        granted = 0
        while there.over == 0:
            await turns(400)
            assert there.messages == messages[: len(there.messages)]
            assert granted < 2_000_000, "it stalls"
            if ours.congested:  # it waits for the window alone
                granted += 60_000
                pair.client.data_received(frames.window_update(ours.number, 60_000))
        assert there.messages == messages
        assert theirs.open

    run(scenario())


async def test_more_than_the_connection_may_take_waits_too() -> None:
    pair = Pair()
    ours, _, theirs, there = await begun(pair)
    pair.client.window = 10
    ours.send(b"x" * 100)
    assert ours.congested
    drained = asyncio.ensure_future(ours.drained())
    await turns()
    assert (there.messages, drained.done()) == ([], False)
    pair.client.data_received(frames.window_update(0, 1_000))
    await turns()
    assert (there.messages, drained.done()) == ([b"x" * 100], True)
    assert theirs.open


async def test_what_the_system_does_not_take_waits() -> None:
    pair = Pair()
    ours, _, _, there = await begun(pair)
    pair.client.pause_writing()
    ours.send(b"one")
    ours.finish()
    drained = asyncio.ensure_future(ours.drained())
    await turns()
    assert (there.messages, drained.done()) == ([], False)
    pair.client.resume_writing()
    await turns()
    assert (there.messages, there.over, drained.done()) == ([b"one"], 1, True)


async def test_who_waits_is_told_also_if_the_last_piece_is_more_than_the_system_takes() -> None:
    pair = Pair()
    ours, _, _, there = await begun(pair)
    pair.client.window = 0
    ours.send(b"one")
    drained = ours.drained()
    write = pair.up.write

    def full(data: Bytes) -> None:
        write(data)
        pair.client.pause_writing()

    pair.up.write = full  # type: ignore[method-assign]
    pair.client.data_received(frames.window_update(0, 1_000))
    await turns()
    assert there.messages == [b"one"]
    assert not drained.done()
    pair.client.resume_writing()
    assert drained.done()


ACTIONS = st.one_of(
    st.tuples(st.just("send"), st.integers(0, 50_000)),
    st.tuples(st.just("wait"), st.just(0)),
    st.tuples(st.just("full after"), st.integers(1, 5)),
    st.tuples(st.just("room"), st.just(0)),
    st.tuples(st.sampled_from(["window", "windows"]), st.integers(1, 60_000)),
)


@settings(max_examples=300)
@given(st.lists(ACTIONS, max_size=25))
def test_whatever_happens_in_between_all_arrives_and_nobody_is_forgotten(actions: list[tuple[str, int]]) -> None:
    async def scenario() -> None:
        pair = Pair()
        ours, _, _, there = await begun(pair)
        pair.client.window = ours.window = 1_000
        left, write, sent, waiting = [0], pair.up.write, list[bytes](), list["asyncio.Future[None]"]()

        def counted(data: Bytes) -> None:
            write(data)
            left[0] -= 1
            if left[0] == 0:
                pair.client.pause_writing()

        pair.up.write = counted  # type: ignore[method-assign]
        for action, number in [*actions, ("room", 0), ("window", 2**30), ("windows", 2**30), ("wait", 0)]:
            if action == "send":
                sent.append(bytes(number))
                ours.send(sent[-1])
            elif action == "wait":
                waiting.append(ours.drained())
            elif action == "full after":
                left[0] = number
            elif action == "room":
                left[0] = 0
                if pair.client.paused:
                    pair.client.resume_writing()
            else:
                pair.client.data_received(frames.window_update(0 if action == "windows" else ours.number, number))
            assert ours.congested or all(one.done() for one in waiting)
        await turns(200)
        assert there.messages == sent
        assert all(one.done() for one in waiting)

    run(scenario())


async def test_nobody_waits_for_ever_on_what_is_over() -> None:
    pair = Pair()
    ours, _, _, there = await begun(pair)
    pair.client.pause_writing()
    drained = asyncio.ensure_future(ours.drained())
    await turns()
    ours.reset()
    await turns()
    assert drained.done()
    ours.send(b"nothing")
    ours.finish()
    assert there.messages == []


@pytest.mark.parametrize("by", ["client", "server"])
async def test_a_reset_is_heard_at_the_other_end_alone(by: str) -> None:
    pair = Pair()
    ours, heard, theirs, there = await begun(pair)
    (ours if by == "client" else theirs).reset()
    await turns()
    mine, others = (heard, there) if by == "client" else (there, heard)
    assert (mine.why, bool(others.why)) == ("", True)
    assert not pair.client.streams
    assert not pair.server.streams


async def test_a_response_that_ends_before_its_request_ends_the_call() -> None:
    pair = Pair()
    _, heard, theirs, there = await begun(pair)
    theirs.finish(trailers(grpc.StatusCode.UNAVAILABLE, "später: 100 %"))
    await turns()
    assert heard.over == 1
    assert failure(heard.fields[-1]) == "it ended the call with status 14: später: 100 %"
    assert not pair.server.streams
    assert not pair.client.streams
    assert (heard.why, there.why) == ("", "")


async def test_an_unknown_method_is_refused_as_grpc_does() -> None:
    pair = Pair()
    _, heard = pair.call("/test.Service/Nothing")
    await turns()
    assert pair.calls == []
    assert heard.over == 1
    assert "status 12: unknown method" in failure(heard.fields[-1])


async def test_a_lost_connection_is_heard_by_every_call() -> None:
    pair = Pair()
    _, heard, _, there = await begun(pair)
    pair.client.connection_lost(ConnectionResetError("gone"))
    pair.server.connection_lost(None)
    assert heard.why == "gone"
    assert there.why == "the connection was closed"


async def test_calls_that_a_leaving_server_has_not_seen_are_lost_and_no_others() -> None:
    pair = Pair()
    _, heard, theirs, _ = await begun(pair)
    _, late = pair.call()
    pair.client.data_received(frames.goaway(1, Code.NO_ERROR))
    theirs.finish(OK)
    await turns()
    assert "no more calls" in late.why
    assert (heard.why, heard.over) == ("", 1)


async def test_a_compressed_message_ends_the_call_alone() -> None:
    pair = Pair()
    ours, heard, _, there = await begun(pair)
    pair.server.data_received(frames.frame(Kind.DATA, 0, ours.number, b"\x01\0\0\0\0"))
    await turns()
    assert "compressed" in there.why
    assert "reset" in heard.why
    assert not pair.up.sent.endswith(frames.goaway(0, Code.PROTOCOL_ERROR))


async def test_a_request_that_breaks_off_within_a_message_is_lost() -> None:
    pair = Pair()
    ours, _, _, there = await begun(pair)
    pair.server.data_received(frames.frame(Kind.DATA, frames.END_STREAM, ours.number, b"\0\0\0\0\5abc"))
    assert "within a message" in there.why
    assert there.over == 0


FAULTS: dict[str, Callable[[int], bytes]] = {
    "an even number": lambda last: frames.frame(Kind.HEADERS, frames.END_HEADERS, 2 * last, b"\x83"),
    "headers that make no sense": lambda last: frames.frame(Kind.HEADERS, frames.END_HEADERS, last + 2, b"\xff" * 9),
    "a continuation of nothing": lambda last: frames.frame(Kind.CONTINUATION, 0, last, b""),
    "headers without an end": lambda last: (
        frames.frame(Kind.HEADERS, 0, last + 2, b"\x83")
        + frames.frame(Kind.DATA, 0, last, b"")
        + frames.frame(Kind.PING, 0, 0, bytes(8))
    ),
    "a flood of continuations": lambda last: (
        frames.frame(Kind.HEADERS, 0, last + 2) + 9 * frames.frame(Kind.CONTINUATION, 0, last + 2, bytes(10_000))
    ),
    "a window beyond its bound": lambda last: 2 * frames.window_update(last, 2**31 - 1),
    "a window that grows by nothing": lambda last: frames.window_update(last, 0),
    "headers of no stream": lambda last: frames.frame(Kind.HEADERS, frames.END_HEADERS, 0, b"\x83"),
    "data of no stream": lambda last: frames.frame(Kind.DATA, 0, 0, b"x"),
    "data within headers": lambda last: (
        frames.frame(Kind.HEADERS, 0, last + 2, b"\x83") + frames.frame(Kind.DATA, 0, last, b"")
    ),
    "half a window update": lambda last: frames.frame(Kind.WINDOW_UPDATE, 0, 0, b"\0"),
    "a frame too large": lambda last: frames.head(Kind.SETTINGS, 0, 0, 1 << 20),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_who_breaks_the_rules_is_told_and_cut(fault: str) -> None:
    pair = Pair()
    ours, _, _, there = await begun(pair)
    pair.server.data_received(FAULTS[fault](ours.number))
    assert not pair.down.open
    assert there.why
    assert frames.goaway(0, Code.NO_ERROR)[:9] in pair.down.sent


async def test_who_does_not_speak_http2_is_cut() -> None:
    pair = Pair()
    pair.server._preface = frames.PREFACE
    pair.server.data_received(b"GET / HTTP/1.1\r\n")
    assert not pair.down.open


@settings(max_examples=200)
@given(st.binary(max_size=200), st.booleans())
def test_no_bytes_break_either_end(octets: bytes, of_client: bool) -> None:
    async def scenario() -> None:
        pair = Pair()
        await begun(pair)
        (pair.client if of_client else pair.server).data_received(octets)
        await turns()

    run(scenario())


@settings(max_examples=200)
@given(
    st.lists(
        st.tuples(st.sampled_from(Kind), st.integers(0, 255), st.integers(0, 5), st.binary(max_size=20)), max_size=6
    ),
    st.booleans(),
)
def test_no_frames_break_either_end(sent: list[tuple[Kind, int, int, bytes]], of_client: bool) -> None:
    async def scenario() -> None:
        pair = Pair()
        await begun(pair)
        end, transport = (pair.client, pair.up) if of_client else (pair.server, pair.down)
        for fields in sent:
            if transport.open:
                end.data_received(frames.frame(*fields))
        await turns()

    run(scenario())


async def test_no_more_calls_are_taken_than_a_connection_may_have() -> None:
    pair = Pair()
    calls = [pair.call() for _ in range(103)]
    await turns(300)
    assert len(pair.calls) == 100
    assert [bool(heard.why) for _, heard in calls] == [False] * 100 + [True] * 3


def test_a_silent_end_is_asked_and_then_given_up() -> None:
    async def scenario() -> None:
        pair = Pair(life=Life(interval=2.0, patience=5.0, unacknowledged=1.0))
        _, heard, _, _ = await begun(pair)
        await asyncio.sleep(60)
        assert pair.up.open, "both answer"
        pair.server._pulse.stop()
        pair.server.data_received = lambda data: None  # type: ignore[method-assign]  # held up
        began = asyncio.get_running_loop().time()
        while not heard.why:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        assert "ping" in heard.why
        assert 5 < asyncio.get_running_loop().time() - began < 10
        assert not pair.up.open

    run(scenario())


async def test_what_comes_is_granted_anew_before_it_is_used_up(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("connection", "stream"):
        monkeypatch.setattr(f"infermesh.mesh.http2.{module}._FEW", 100_000)
    pair = Pair()
    ours, _, _, there = await begun(pair)
    for _ in range(5):
        ours.send(bytes(60_000))
        await turns()
    assert len(there.messages) == 5
    assert ours.window > 2**31 - 1 - 150_000
    assert pair.client.window > 2**31 - 1 - 150_000
    assert pair.life is CALM
