"""A value that tasks watch."""

import asyncio

from infermesh.scheduler.latest import Latest
from infermesh.testing.clock import FakeClock


async def test_a_watcher_sees_the_value_that_is_there_and_every_newer_one() -> None:
    latest: Latest[str] = Latest()
    latest.put("a")
    watch = latest.watch()
    assert await anext(watch) == "a"
    latest.put("b")
    assert await anext(watch) == "b"


async def test_before_the_first_value_nothing_is_seen() -> None:
    latest: Latest[str] = Latest()
    first = asyncio.ensure_future(anext(latest.watch()))
    await FakeClock().settle()
    assert not first.done()
    latest.put("a")
    assert await first == "a"


async def test_what_was_overtaken_is_not_seen() -> None:
    latest: Latest[int] = Latest()
    watch = latest.watch()
    for number in (1, 2, 3):
        latest.put(number)
    assert await anext(watch) == 3


async def test_a_value_that_comes_while_the_watcher_is_busy_is_not_missed() -> None:
    latest: Latest[int] = Latest()
    latest.put(1)
    watch = latest.watch()
    await anext(watch)
    latest.put(2)  # nobody waits just now
    assert await anext(watch) == 2


async def test_the_same_value_again_wakes_nobody() -> None:
    latest: Latest[str] = Latest()
    latest.put("a")
    watch = latest.watch()
    await anext(watch)
    second = asyncio.ensure_future(anext(watch))
    latest.put("a")
    await FakeClock().settle()
    assert not second.done()
    second.cancel()


async def test_closing_ends_every_watch_now_and_later() -> None:
    latest: Latest[str] = Latest()

    async def all_of_it() -> list[str]:
        return [value async for value in latest.watch()]

    waiting = [asyncio.ensure_future(all_of_it()) for _ in range(2)]
    await FakeClock().settle()
    latest.put("a")
    await FakeClock().settle()
    latest.close()
    assert await asyncio.gather(*waiting) == [["a"], ["a"]]
    assert await all_of_it() == []
