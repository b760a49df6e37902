"""A request as it comes: complete, in order, and never more of it than there is room for."""

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infermesh.gateway.door.body import WINDOW, Body
from infermesh.mesh.http2.frames import Code, ConnectionFault, Kind, Splitter
from infermesh.mesh.wire import Bytes
from tests.unit.gateway.virtual import run

NUMBER = 7
DISCONNECT = {"type": "http.disconnect"}


class Sender:
    """The connection of a body, and what it says of room for more."""

    def __init__(self) -> None:
        self.given_back = 0
        self.granted = 0

    def write(self, *parts: Bytes) -> None:
        for each in Splitter().feed(b"".join(parts)):
            assert (each.kind, each.stream) == (Kind.WINDOW_UPDATE, NUMBER)
            self.granted += int.from_bytes(each.payload, "big")

    def consumed(self, size: int) -> None:
        assert size >= 0
        self.given_back += size


def made() -> tuple[Sender, Body]:
    """Returns a body, and what it is on."""
    sender = Sender()
    return sender, Body(sender, NUMBER, asyncio.get_running_loop())


def event(data: bytes, more: bool) -> dict[str, Any]:
    """Returns what `receive` gives."""
    return {"type": "http.request", "body": data, "more_body": more}


async def test_what_has_come_is_given_together() -> None:
    _, body = made()
    for data in (b"a", memoryview(b"b"), b"c"):
        body.take(data, 1, False)
    assert await body.receive() == event(b"abc", True)
    body.take(b"d", 1, True)
    assert await body.receive() == event(b"d", False)


async def test_who_asks_first_is_told_at_once() -> None:
    _, body = made()
    asked = body.receive()
    body.take(b"", 0, False)
    assert not asked.done()
    body.take(b"a", 1, False)
    assert asked.result() == event(b"a", True)


async def test_an_end_without_bytes_is_told_and_then_nothing_is() -> None:
    _, body = made()
    body.take(b"", 0, True)
    assert await body.receive() == event(b"", False)
    asked = body.receive()
    assert not asked.done()
    body.leave()
    assert asked.result() == DISCONNECT


@pytest.mark.parametrize("end", [False, True])
async def test_that_the_caller_has_gone_comes_before_what_it_sent(end: bool) -> None:
    sender, body = made()
    body.take(b"abc", 3, end)
    body.leave()
    assert sender.given_back == 3
    assert body.receive().result() == DISCONNECT
    assert body.receive().result() == DISCONNECT


async def test_a_question_that_was_given_up_takes_nothing_along() -> None:
    _, body = made()
    body.receive().cancel()
    body.take(b"abc", 3, False)
    assert body.receive().result() == event(b"abc", True)


async def test_what_nobody_asks_for_any_more_is_given_back_once() -> None:
    sender, body = made()
    body.take(bytes(100), 100, False)
    asked = body.receive()
    body.take(bytes(50), 50, False)
    body.close()
    body.close()
    assert asked.done()
    assert sender.given_back == 150


async def test_room_is_given_anew_when_half_of_it_was_used() -> None:
    sender, body = made()
    body.take(bytes(WINDOW // 2 - 1), WINDOW // 2 - 1, False)
    body.receive()
    assert sender.granted == 0
    body.take(b"x", 1, False)
    assert sender.granted == 0, "nobody has read it"
    body.receive()
    assert sender.granted == WINDOW // 2


async def test_no_room_is_given_after_the_end() -> None:
    sender, body = made()
    body.take(bytes(WINDOW), WINDOW, True)
    body.receive()
    assert (sender.granted, sender.given_back) == (0, WINDOW)


@pytest.mark.parametrize("read", [False, True])
async def test_who_sends_more_than_there_is_room_for_has_broken_the_rules(read: bool) -> None:
    sender, body = made()
    body.take(bytes(WINDOW // 2 - 1), WINDOW // 2 - 1, False)
    if read:
        body.receive()
    rest = WINDOW - (WINDOW // 2 - 1)
    body.take(bytes(rest), rest, False)
    with pytest.raises(ConnectionFault) as caught:
        body.take(b"x", 1, False)
    assert caught.value.code == Code.FLOW_CONTROL_ERROR
    assert sender.granted == 0


async def test_frames_of_nothing_but_padding_use_up_no_room_for_ever() -> None:
    sender, body = made()
    asked = body.receive()
    for _ in range(2 * WINDOW // 256):
        body.take(b"", 256, False)
    body.take(b"x", 1, True)
    assert b"x" in [(await each)["body"] for each in (asked, body.receive()) if each.done()]
    assert sender.given_back == 2 * WINDOW + 1


ACTIONS = st.lists(
    st.tuples(st.sampled_from(["take", "take", "receive", "give up"]), st.integers(0, WINDOW), st.integers(0, 200)),
    max_size=30,
)


@settings(max_examples=100)
@given(ACTIONS, st.sampled_from(["end", "leave", "close"]))
def test_bytes_come_out_whole_and_in_order_and_room_is_neither_lost_nor_made(
    actions: list[tuple[str, int, int]], end: str
) -> None:
    async def scenario() -> None:
        (sender, body), sent, out, came = made(), list[bytes](), list[bytes](), 0
        asked: asyncio.Future[Any] | None = None

        def collect() -> None:
            nonlocal asked
            if asked is not None and asked.done():
                if not asked.cancelled() and asked.result() != DISCONNECT:
                    out.append(asked.result()["body"])
                asked = None

        for action, wanted, padding in actions:
            if action == "take":
                room = WINDOW + sender.granted - came - padding  # of a sender who keeps to what it was given
                if room >= 0:
                    size = min(wanted, room)
                    sent.append(bytes((len(sent),)) * size)
                    came += size + padding
                    body.take(sent[-1], size + padding, False)
            elif action == "receive":
                asked = asked or body.receive()
            elif asked is not None:
                asked.cancel()
            collect()
            assert came - sender.granted <= WINDOW
            assert sender.granted <= sender.given_back <= came, "only what was read is given anew"
        if end == "end":
            body.take(b"", 0, True)
            while (asked := asked or body.receive()).done():
                collect()
            assert b"".join(out) == b"".join(sent)
        else:
            body.leave() if end == "leave" else body.close()
            assert b"".join(sent).startswith(b"".join(out))
        assert sender.given_back == came

    run(scenario())


async def test_a_byte_at_a_time_takes_no_more_memory_than_bytes() -> None:
    _, body = made()
    for _ in range(20_000):
        body.take(b"x", 1, False)
    assert len(body._chunks) <= 20_000 // 4_096 + 1
    assert body.receive().result()["body"] == b"x" * 20_000
