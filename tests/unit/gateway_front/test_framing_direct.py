"""The short way of a unary call, and when a call leaves it."""

import asyncio
import gc
import gzip
from collections.abc import Callable
from typing import Any

import pytest

from infermesh.errors import DeadlineExceeded, Overloaded
from infermesh.gateway.framing.direct import Direct
from infermesh.gateway.framing.frames import Limits
from infermesh.gateway.framing.guard import Guard
from infermesh.gateway.framing.methods import Method
from infermesh.gateway.framing.vigil import Vigil
from tests.unit.gateway_front.wire import DISCONNECT, Wire, body, framed, scope

OK, INVALID, LATE, EXHAUSTED, INTERNAL = 0, 3, 4, 8, 13
_LINGERS = 0.15  # longer than the vigil waits


class Running:
    def __init__(self) -> None:
        self.cancelled = 0

    def cancel(self) -> None:
        self.cancelled += 1


class Service:
    """A method that both ways lead to, told apart by what they answer."""

    def __init__(self, begin: Callable[[bytes, Any], None] | None = None) -> None:
        self.replies: list[Any] = []
        self.running = Running()
        self.vigil, self.guard = Vigil(), Guard(Limits(1 << 20))
        self._begin = begin or (lambda data, reply: reply.answer(b"direct " + data))
        self.method = Method(self._long, direct=self._direct)

    async def _long(self, data: bytes, context: Any) -> bytes:
        return b"long " + data

    def _direct(self, data: bytes, reply: Any) -> Running:
        self.replies.append(reply)
        self._begin(data, reply)
        return self.running

    def call(self, wire: Wire, *headers: tuple[str, str]) -> Direct:
        request = scope(headers=headers)
        known = dict(request["headers"])
        return Direct(request, wire.receive, wire.send, self.method, known, self.guard, self.vigil).begin()


async def test_answers_without_asking_again() -> None:
    wire = Wire(body(framed(b"hello")))
    await Service().call(wire)
    wire.answer.check_order()
    assert wire.answer.messages == [b"direct hello"]
    assert wire.answer.code == OK
    assert wire.asked == 1


@pytest.mark.parametrize(
    ("error", "code"), [(Overloaded("full"), EXHAUSTED), (KeyError("secret 42"), INTERNAL)], ids=["ours", "a fault"]
)
async def test_fails_with_what_the_handler_raises(error: Exception, code: int) -> None:
    def begin(data: bytes, reply: Any) -> None:
        raise error

    wire = Wire(body(framed(b"x")))
    await Service(begin).call(wire)
    wire.answer.check_order()
    assert wire.answer.code == code
    assert "secret" not in wire.answer.text  # a request id may have any digits


async def test_fails_with_what_comes_later() -> None:
    service, wire = Service(lambda data, reply: None), Wire(body(framed(b"x")))
    call = service.call(wire, ("grpc-timeout", "5S"))
    while not service.replies:  # noqa: ASYNC110
        await asyncio.sleep(0)
    assert call.deadline is not None
    assert 4 < call.deadline - asyncio.get_running_loop().time() <= 5
    service.replies[0].fail(DeadlineExceeded("late"))
    await call
    assert wire.answer.code == LATE


async def test_a_malformed_timeout_is_told() -> None:
    wire = Wire(body(framed(b"x")))
    await Service().call(wire, ("grpc-timeout", "soon"))
    assert wire.answer.code == INVALID
    assert "grpc-timeout" in wire.answer.text


@pytest.mark.parametrize(
    "events",
    [
        [body(framed(b"hello")[:3], more=True), body(framed(b"hello")[3:])],
        [body(framed(b"hello"), more=True), body(b"")],
    ],
    ids=["in pieces", "its end later"],
)
async def test_a_request_in_pieces_goes_the_long_way(events: list[dict[str, Any]]) -> None:
    wire = Wire(*events)
    await Service().call(wire)
    wire.answer.check_order()
    assert wire.answer.messages == [b"long hello"]


async def test_a_compressed_message_is_judged_on_the_long_way() -> None:
    data = gzip.compress(b"hello", mtime=0)
    wire = Wire(body(b"\1" + len(data).to_bytes(4, "big") + data))
    await Service().call(wire)  # it never said with what it compresses
    assert wire.answer.code != OK


async def test_more_than_one_message_is_refused() -> None:
    wire = Wire(body(framed(b"one") + framed(b"two")))
    await Service().call(wire)
    assert wire.answer.code not in (OK, INTERNAL)


async def test_a_caller_who_goes_away_before_the_request_is_forgotten() -> None:
    service, wire = Service(), Wire(DISCONNECT)
    await service.call(wire)
    assert service.replies == []
    assert wire.answer.events == []


async def test_a_caller_who_goes_away_while_it_lingers_cancels_the_call() -> None:
    service, wire = Service(lambda data, reply: None), Wire(body(framed(b"x")))
    call = service.call(wire)
    await asyncio.sleep(_LINGERS)
    assert wire.asked == 2
    assert service.guard.alive == {call}
    wire.put(DISCONNECT)
    await call
    assert service.running.cancelled == 1
    assert service.guard.alive == set()
    assert wire.answer.events == []


async def test_a_request_that_does_not_come_goes_on_the_long_way() -> None:
    service, wire = Service(), Wire()
    call = service.call(wire)
    await asyncio.sleep(_LINGERS)
    wire.put(body(framed(b"late")))
    await call
    assert wire.answer.messages == [b"long late"]


async def test_a_request_that_comes_just_as_its_call_is_looked_at_is_executed_once() -> None:
    service, wire = Service(), Wire()
    call = service.call(wire)
    wire.put(body(framed(b"x")))
    call.linger()  # before the loop has come to tell of it, as happens on a busy machine
    await call
    wire.answer.check_order()
    assert wire.answer.messages == [b"long x"]
    assert service.replies == []


async def test_a_request_whose_pieces_take_long_is_read_by_one_reader() -> None:
    data = framed(bytes(60_000))
    service, wire = Service(), Wire(body(data[:16_384], more=True))
    call = service.call(wire)
    await asyncio.sleep(_LINGERS)
    assert wire.asked == 2
    wire.put(body(data[16_384:40_000], more=True))
    wire.put(body(data[40_000:]))
    await call
    wire.answer.check_order()
    assert wire.answer.messages == [b"long " + bytes(60_000)]


async def test_a_silent_call_shows_that_it_is_alive_and_is_answered_in_order() -> None:
    service, wire = Service(lambda data, reply: None), Wire(body(framed(b"x")))
    call = service.call(wire)
    await asyncio.sleep(_LINGERS)
    call.show_life()
    await asyncio.sleep(0.01)
    call.show_life()
    service.replies[0].answer(b"at last")
    await call
    wire.answer.check_order()
    assert wire.answer.messages == [b"at last"]
    assert len(wire.answer.events) == 5


async def test_calls_that_are_quick_are_never_looked_at() -> None:
    service = Service()
    for _ in range(100):
        wire = Wire(body(framed(b"x")))
        await service.call(wire)
        assert wire.asked == 1
    await asyncio.sleep(_LINGERS)
    assert service.guard.alive == set()


def alive() -> int:
    return sum(issubclass(type(each), (Running, Direct)) for each in gc.get_objects())


@pytest.mark.parametrize("answered", ["at once", "later", "never"])
async def test_a_call_that_is_over_needs_no_collector(answered: str) -> None:
    class Held(Running):
        """Knows its reply, as what is under way does."""

    def begin(data: bytes, reply: Any) -> None:
        service.running = running = Held()
        running.reply = reply  # type: ignore[attr-defined]
        if answered == "at once":
            reply.answer(b"")

    service, wire = Service(begin), Wire(body(framed(b"x")), *([DISCONNECT] if answered == "never" else []))
    del service.running
    gc.collect()
    gc.disable()
    before = alive()
    try:
        call = service.call(wire)
        while not service.replies:  # noqa: ASYNC110
            await asyncio.sleep(0)
        if answered == "later":
            service.replies[0].answer(b"")
        await call
        del call
        service.replies.clear()
        del service.running
        await asyncio.sleep(0)
        assert alive() == before
    finally:
        gc.enable()
