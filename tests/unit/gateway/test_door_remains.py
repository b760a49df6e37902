"""Nothing is left of a call on the gRPC port that is over: no one holds it, also without the collector."""

import asyncio
import gc
import sys
from collections.abc import Callable
from typing import Any

import pytest

from infermesh.gateway.door.call import DoorCall
from infermesh.mesh.http2.frames import Code
from tests.unit.gateway.door_parts import Caller, done
from tests.unit.gateway_front.wire import framed
from tests.unit.mesh.http2_parts import turns


def held(call: DoorCall) -> int:
    """Returns how many hold a call, beside who asks."""
    return sys.getrefcount(call) - 3  # the caller's name, this one, and the argument


ENDS: dict[str, Callable[[Caller, int, DoorCall], None]] = {
    "answered": lambda caller, number, call: call.answer(b"done"),
    "failed": lambda caller, number, call: call.fail(KeyError("x")),
    "reset": lambda caller, number, call: caller.reset(number),
    "lost": lambda caller, number, call: caller.lose(),
    "cut": lambda caller, number, call: call.cut(Code.CANCEL),
}


class Holding:
    """A call under way that knows its reply, as those of the dispatcher do."""

    def __init__(self, reply: Any) -> None:
        self.reply = reply

    def cancel(self) -> None: ...


@pytest.mark.parametrize("window", [65_535, 0])
@pytest.mark.parametrize("end", ENDS)
async def test_nothing_holds_a_direct_call_that_is_over(end: str, window: int) -> None:
    caller = Caller()
    caller.set(INITIAL_WINDOW_SIZE=window)
    method = caller.house.port.methods[b"/test.Service/Direct"]
    object.__setattr__(method, "direct", lambda data, reply: Holding(reply))
    gc.collect()
    gc.disable()
    try:
        number = caller.call(b"x")
        call = caller.streams[number]
        assert held(call) >= 1
        ENDS[end](caller, number, call)
        if end == "answered" and not window:
            caller.connection.look(asyncio.get_running_loop().time())
            caller.grant(100, number)
        assert not caller.streams
        await turns(2)
        assert held(call) == 0
    finally:
        gc.enable()


@pytest.mark.parametrize("end", ["answered", "reset", "lost"])
async def test_nothing_but_garbage_holds_a_call_of_the_long_way_that_is_over(end: str) -> None:
    caller = Caller()
    gc.collect()
    gc.disable()
    try:
        number = caller.begin("Chat")
        call = caller.streams[number]
        caller.data(number, framed(b"x"), end=end == "answered")
        await turns()
        if end != "answered":
            ENDS[end](caller, number, call)
            await turns()
        assert not caller.streams
        gc.collect()  # an exchange and its context hold each other
        assert held(call) == 0
    finally:
        gc.enable()


@pytest.mark.parametrize("raised", [KeyError("x"), None])
async def test_nothing_holds_a_call_that_ends_as_it_begins(raised: Exception | None) -> None:
    begun: list[DoorCall] = []

    def direct(data: bytes, reply: Any) -> Holding:
        begun.append(reply)
        if raised is not None:
            raise raised
        reply.answer(b"at once")
        return Holding(reply)

    caller = Caller()
    object.__setattr__(caller.house.port.methods[b"/test.Service/Direct"], "direct", direct)
    gc.collect()
    gc.disable()
    try:
        await done(caller, caller.call(b"x"))
        call = begun.pop()
        raised = None if raised is None else raised.with_traceback(None)
        assert held(call) == 0
    finally:
        gc.enable()
