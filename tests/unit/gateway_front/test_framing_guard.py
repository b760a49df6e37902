"""What requests may take in time and memory, and how a silent call shows that it is alive."""

import asyncio
import gzip

import pytest

from infermesh.errors import DeadlineExceeded, Overloaded
from infermesh.gateway.framing.exchange import Exchange
from infermesh.gateway.framing.frames import Limits
from infermesh.gateway.framing.guard import Guard
from infermesh.gateway.framing.methods import Method
from infermesh.gateway.front import Front
from infermesh.gateway.frontends.http import create_http
from tests.unit.gateway_front.wire import DISCONNECT, Wire, body, framed, scope

EXHAUSTED, LATE = 8, 4


async def echo(request, context):
    return request


async def echo_all(requests, context):
    async for request in requests:
        yield request


UNARY = Method(echo)
BOTH = Method(echo_all, client_stream=True, server_stream=True)


def run(wire: Wire, guard: Guard, method: Method = UNARY, *headers: tuple[str, str]) -> "asyncio.Task[None]":
    request = scope(headers=headers)
    exchange = Exchange(request, wire.receive, wire.send, method, dict(request["headers"]), guard)
    return asyncio.get_running_loop().create_task(exchange.run())


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


class TestTime:
    def test_every_byte_earns_its_time_above_a_first_grace(self):
        guard = Guard(Limits(body_timeout=20, min_rate=100))
        assert guard.due(began=5, received=0) == 25
        assert guard.due(began=5, received=1000) == 35

    async def test_waiting_within_it_gives_what_is_waited_for(self):
        guard = Guard(Limits())
        assert await guard.in_time(asyncio.sleep(0, "x"), asyncio.get_running_loop().time(), 0) == "x"

    async def test_beyond_it_the_sender_is_too_slow(self):
        guard = Guard(Limits(body_timeout=0.001))
        with pytest.raises(DeadlineExceeded, match="only 7 bytes") as caught:
            await guard.in_time(asyncio.Event().wait(), asyncio.get_running_loop().time(), 7)
        assert caught.value.reason == "REQUEST_TOO_SLOW"

    @pytest.mark.parametrize("events", [[], [body(framed(b"abc")[:6], more=True)], [body(framed(b"abc"), more=True)]])
    async def test_a_unary_request_that_does_not_go_on_is_late(self, events):
        wire = Wire(*events)
        await run(wire, Guard(Limits(body_timeout=0.001)))
        assert wire.answer.code == LATE

    async def test_a_stream_may_be_silent_between_messages_but_not_within_one(self):
        wire = Wire(body(framed(b"abc"), more=True))
        task = run(wire, Guard(Limits(body_timeout=0.001)), BOTH)
        await asyncio.sleep(0.01)
        assert not task.done()
        wire.put(body(framed(b"abc")[:6], more=True))
        await task
        assert (wire.answer.code, wire.answer.messages) == (LATE, [b"abc"])


class TestMemory:
    async def test_messages_that_come_in_pieces_are_counted_until_the_call_ends(self):
        guard, entered, go = Guard(Limits()), asyncio.Event(), asyncio.Event()

        async def wait(request, context):
            entered.set()
            await go.wait()
            return b""

        wire = Wire(body(framed(bytes(50))[:20], more=True), body(framed(bytes(50))[20:]))
        task = run(wire, guard, Method(wait))
        await entered.wait()
        assert guard.held == 55
        go.set()
        await task
        assert guard.held == 0

    async def test_what_is_unpacked_counts_too(self):
        guard, held = Guard(Limits()), []

        async def look(request, context):
            held.append(guard.held)
            return b""

        packed = gzip.compress(bytes(5000))
        data = b"\1" + len(packed).to_bytes(4, "big") + packed
        await run(Wire(body(data)), guard, Method(look), ("grpc-encoding", "gzip"))
        assert held == [5000 + len(data)]
        assert guard.held == 0

    async def test_without_room_a_request_is_refused_and_leaves_nothing_behind(self):
        guard = Guard(Limits(held=100))
        guard.take(60)
        wire = Wire(body(framed(bytes(50))[:20], more=True), body(framed(bytes(50))[20:]))
        await run(wire, guard)
        assert wire.answer.code == EXHAUSTED
        assert guard.held == 60
        with pytest.raises(Overloaded) as caught:
            guard.take(41)
        assert (caught.value.reason, caught.value.retry_after) == ("REQUEST_BYTES_FULL", 1.0)

    async def test_a_stream_of_any_length_holds_one_message_at_a_time(self):
        guard = Guard(Limits(held=100))
        wire = Wire(*[body(framed(bytes(50)), more=True) for _ in range(10)], body(b""))
        await run(wire, guard, BOTH)
        assert (wire.answer.code, len(wire.answer.messages), guard.held) == (0, 10, 0)

    async def test_a_caller_who_goes_away_holds_nothing(self):
        guard = Guard(Limits())
        await run(Wire(body(framed(b"abc")[:6], more=True), DISCONNECT), guard)
        assert guard.held == 0

    async def test_a_long_compressed_message_is_unpacked_beside_the_loop(self):
        data = bytes(range(256)) * 400
        packed = gzip.compress(data, 0)  # long, as it is only stored
        assert await Guard(Limits()).inflate(packed, b"gzip") == data


class TestLife:
    def looked_at(self, guard: Guard) -> None:
        for call in list(guard.alive):
            call.show_life()

    async def hanging(self, guard: Guard, method: Method) -> tuple[Wire, "asyncio.Task[None]"]:
        wire = Wire(body(framed(b"abc"), more=method.client_stream))
        task = run(wire, guard, method)
        await settle()
        return wire, task

    async def test_a_silent_call_moves_a_chunk_of_nothing_the_second_time_it_is_looked_at(self):
        guard, go = Guard(Limits()), asyncio.Event()

        async def wait(request, context):
            await go.wait()
            return request

        wire, task = await self.hanging(guard, Method(wait))
        self.looked_at(guard)
        await settle()
        assert wire.answer.events == []
        self.looked_at(guard)
        await settle()
        assert [event["type"] for event in wire.answer.events] == ["http.response.start", "http.response.body"]
        go.set()
        await task
        assert (wire.answer.code, wire.answer.messages) == (0, [b"abc"])
        wire.answer.check_order()
        assert not guard.alive

    async def test_an_open_stream_shows_life(self):
        guard = Guard(Limits())
        wire, task = await self.hanging(guard, BOTH)
        for _ in range(3):
            self.looked_at(guard)
            await settle()
        assert wire.answer.body == framed(b"abc")
        assert len(wire.answer.events) == 4  # head, message, twice nothing
        wire.put(body(b""))
        await task

    async def test_a_call_whose_request_is_not_there_yet_shows_none(self):
        guard = Guard(Limits())
        wire = Wire(body(framed(b"abc")[:6], more=True))
        task = run(wire, guard)
        await settle()
        assert not guard.alive
        wire.put(DISCONNECT)
        await task

    async def test_nothing_is_piled_up_on_a_caller_who_does_not_read(self):
        guard = Guard(Limits())
        wire, task = await self.hanging(guard, BOTH)
        stuck = asyncio.Event()
        sent = 0

        async def send(event):
            nonlocal sent
            sent += 1
            await stuck.wait()

        (exchange,) = guard.alive
        exchange._send = send
        for _ in range(5):
            self.looked_at(guard)
            await settle()
        assert sent == 1
        stuck.set()
        wire.put(DISCONNECT)
        await task

    async def test_the_front_looks_again_and_again(self):
        guard = Guard(Limits())
        front = Front({}, create_http([]), guard)
        seen = []

        class Call:
            def show_life(self) -> None:
                seen.append(1)

        guard.alive.add(Call())
        looking = asyncio.create_task(front.show_life(0.001))
        while len(seen) < 3:  # noqa: ASYNC110  # it only counts
            await asyncio.sleep(0.001)
        looking.cancel()
