"""The outlet: what waits leaves together, at the pace of the caller, and a caller who is gone is told of."""

import asyncio
from collections.abc import Sequence

import pytest

from infermesh.gateway.framing.outlet import Outlet, Round


class Door:
    """Takes chunks; each moves when the test says so."""

    def __init__(self, round_: Round | None = None) -> None:
        self.chunks: list[list[bytes]] = []
        self.moving: list[asyncio.Future[None]] = []
        self.waiting: list[bytes] = []
        self.gone = 0
        self.outlet = Outlet(self.write, self.leave, round_ or Round())
        self.outlet.open(self.pull)

    def write(self, messages: Sequence[bytes]) -> "asyncio.Future[None]":
        self.chunks.append(list(messages))
        self.moving.append(asyncio.get_running_loop().create_future())
        return self.moving[-1]

    def pull(self) -> list[bytes]:
        taken, self.waiting = self.waiting, []
        return taken

    def leave(self) -> None:
        self.gone += 1

    async def put(self, *messages: bytes) -> None:
        for message in messages:
            self.waiting.append(message)
            self.outlet.news()
        await turns()


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_what_comes_in_one_turn_leaves_in_one_chunk() -> None:
    door = Door()
    await door.put(b"a", b"b")
    assert door.chunks == [[b"a", b"b"]]


async def test_an_outlet_that_fails_by_a_fault_of_ours_does_not_silence_others() -> None:
    round_ = Round()
    faulty, healthy = Door(round_), Door(round_)
    faulty.outlet.open(lambda: [b"x"] * (1 // 0))
    faulty.outlet.news()
    await healthy.put(b"a")
    await healthy.put(b"b")
    assert (healthy.chunks, faulty.chunks) == ([[b"a"]], [])
    healthy.moving[0].set_result(None)
    await turns()
    assert healthy.chunks == [[b"a"], [b"b"]]


async def test_nothing_is_pulled_while_a_chunk_moves_then_all_that_waits() -> None:
    door = Door()
    await door.put(b"a")
    await door.put(b"b")
    await door.put(b"c")
    assert door.chunks == [[b"a"]]
    door.moving[0].set_result(None)
    await turns()
    assert door.chunks == [[b"a"], [b"b", b"c"]]


async def test_finishing_sends_the_rest_at_the_pace_of_the_caller() -> None:
    door = Door()
    await door.put(b"a")
    await door.put(b"b")
    door.waiting.append(b"c")
    finishing = asyncio.create_task(door.outlet.finish())
    await turns()
    assert not finishing.done()
    while not finishing.done():
        for moving in door.moving:
            if not moving.done():
                moving.set_result(None)
        await turns()
    assert [message for chunk in door.chunks for message in chunk] == [b"a", b"b", b"c"]
    await door.put(b"late")
    assert door.waiting == [b"late"], "nothing is pulled after the end"


@pytest.mark.parametrize("waiting", [False, True], ids=["between chunks", "behind"])
async def test_a_chunk_that_can_not_be_sent_tells_that_the_caller_is_gone(waiting: bool) -> None:
    door = Door()
    await door.put(b"a")
    if waiting:
        await door.put(b"b")
    door.moving[0].set_exception(OSError("the client disconnected"))
    await door.put(b"c")
    assert (door.gone, door.chunks) == (1, [[b"a"]])
    await door.put(b"d")
    assert door.gone == 1


async def test_closing_hears_of_a_failure_that_nobody_else_looks_at() -> None:
    door = Door()
    await door.put(b"a")
    door.outlet.close()
    door.moving[0].set_exception(OSError("the client disconnected"))
    await turns()
    assert door.gone == 0
