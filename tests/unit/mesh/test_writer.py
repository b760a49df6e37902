"""Writes without a task: order, what leaves together, waiting, failing, closing."""

import asyncio
from collections.abc import Callable

import pytest

from infermesh.mesh.writer import Writer


class Stream:
    """Takes lists of items; each write waits for `gate` if there is one."""

    def __init__(self) -> None:
        self.waiting: list[int] = []
        self.written: list[list[int]] = []
        self.errors: list[Exception] = []
        self.gate: asyncio.Future[None] | None = None
        self.fault: Exception | None = None
        self.writer = Writer(self._take, self._write, self.errors.append)

    def put(self, item: int, tell: Callable[[], None]) -> None:
        self.waiting.append(item)
        tell()

    def _take(self) -> list[int] | None:
        taken, self.waiting = self.waiting, []
        return taken or None

    def _write(self, items: list[int]) -> "asyncio.Future[None] | None":
        if self.gate is None:
            self._arrive(items)
            return None
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def opened(gate: "asyncio.Future[None]") -> None:
            if gate.cancelled():
                written.cancel()
                return
            try:
                self._arrive(items)
            except ValueError as error:
                written.set_exception(error)
            else:
                written.set_result(None)

        self.gate.add_done_callback(opened)
        return written

    def _arrive(self, items: list[int]) -> None:
        if self.fault is not None:
            raise self.fault
        self.written.append(items)


async def turns() -> None:
    for _ in range(6):
        await asyncio.sleep(0)


async def test_what_comes_in_one_turn_leaves_together() -> None:
    stream = Stream()
    for item in range(3):
        stream.put(item, stream.writer.news)
    assert stream.waiting == [0, 1, 2], "not before the end of the turn"
    await turns()
    assert stream.written == [[0, 1, 2]]


async def test_a_flush_begins_at_once() -> None:
    stream = Stream()
    stream.put(1, stream.writer.flush)
    assert stream.waiting == []
    await turns()
    assert stream.written == [[1]]


async def test_what_comes_during_a_write_leaves_after_it_together() -> None:
    stream = Stream()
    stream.gate = asyncio.get_running_loop().create_future()
    for item in range(4):
        stream.put(item, stream.writer.flush)
    await turns()
    assert stream.written == []
    stream.gate.set_result(None)
    await turns()
    assert stream.written == [[0], [1, 2, 3]]


@pytest.mark.parametrize("waits", [False, True])
async def test_a_failure_is_told_once_and_nothing_is_written_after_it(waits: bool) -> None:
    stream = Stream()
    if waits:
        stream.gate = asyncio.get_running_loop().create_future()
        stream.gate.set_result(None)
    stream.fault = ValueError("broken")
    stream.put(1, stream.writer.flush)
    await turns()
    stream.put(2, stream.writer.news)
    await turns()
    assert stream.errors == [stream.fault]
    assert stream.written == []


async def test_a_closed_writer_writes_and_tells_nothing() -> None:
    stream = Stream()
    stream.gate = asyncio.get_running_loop().create_future()
    stream.put(1, stream.writer.flush)
    stream.writer.close()
    stream.fault = ValueError("broken")
    stream.gate.set_result(None)
    stream.put(2, stream.writer.news)
    await turns()
    assert stream.written == []
    assert stream.errors == []


async def test_a_cancelled_write_closes_the_writer() -> None:
    stream = Stream()
    stream.gate = asyncio.get_running_loop().create_future()
    stream.put(1, stream.writer.flush)
    stream.gate.cancel()
    await turns()
    stream.put(2, stream.writer.flush)
    await turns()
    assert stream.errors == []
    assert stream.written == []
