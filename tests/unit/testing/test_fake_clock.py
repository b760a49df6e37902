"""FakeClock keeps the promises of mesh.clock.Clock, in virtual time."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infermesh.testing.clock import FakeClock


async def test_sleep_returns_only_when_time_has_passed():
    clock = FakeClock()
    task = asyncio.create_task(clock.sleep(10))
    await clock.advance(9.999)
    assert not task.done()
    assert clock.sleepers() == 1
    await clock.advance(0.001)
    assert task.done()
    assert clock.sleepers() == 0


async def test_sleepers_wake_in_order_each_at_its_own_time():
    clock = FakeClock(start=0)
    woken = []

    async def sleeper(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append((name, clock.time()))

    tasks = [asyncio.create_task(sleeper(*args)) for args in [("c", 3), ("a", 1), ("b", 2), ("b2", 2)]]
    await clock.advance(5)
    assert woken == [("a", 1), ("b", 2), ("b2", 2), ("c", 3)]
    assert clock.time() == 5
    await asyncio.gather(*tasks)


async def test_a_loop_of_sleeps_ticks_through_one_advance():
    clock = FakeClock(start=0)
    ticks = []

    async def heartbeat() -> None:
        while True:
            await clock.sleep(1)
            ticks.append(clock.time())

    task = asyncio.create_task(heartbeat())
    await clock.advance(3.5)
    assert ticks == [1, 2, 3]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancelled_sleeper_is_forgotten():
    clock = FakeClock()
    task = asyncio.create_task(clock.sleep(1))
    await clock.settle()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert clock.sleepers() == 0
    await clock.advance(2)


async def test_no_time_is_no_wait():
    await asyncio.wait_for(FakeClock().sleep(0), timeout=5)
    await asyncio.wait_for(FakeClock().sleep(-1), timeout=5)


async def test_time_never_goes_back():
    clock = FakeClock()
    with pytest.raises(ValueError, match="never goes back"):
        await clock.advance(-1)


@given(sleeps=st.lists(st.floats(0.001, 100), max_size=12), steps=st.lists(st.floats(0, 50), max_size=8))
def test_nobody_oversleeps_or_wakes_early(sleeps, steps):
    async def run() -> None:
        clock = FakeClock(start=0)
        woken: dict[int, float] = {}

        async def sleeper(index: int, seconds: float) -> None:
            await clock.sleep(seconds)
            woken[index] = clock.time()

        tasks = [asyncio.create_task(sleeper(index, seconds)) for index, seconds in enumerate(sleeps)]
        for step in steps:
            await clock.advance(step)
            assert woken == {i: s for i, s in enumerate(sleeps) if s <= clock.time()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(run())
