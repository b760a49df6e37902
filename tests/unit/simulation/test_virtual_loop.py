"""The event loop of simulations: order, virtual time, and that nothing fails unnoticed."""

import asyncio
from typing import Any

import pytest

from infermesh.simulation.loop import VirtualLoop


def new_loop() -> Any:
    return VirtualLoop()  # type: ignore[abstract]


def test_callbacks_run_by_time_and_then_in_the_order_of_their_scheduling() -> None:
    loop, seen = new_loop(), []

    async def main() -> None:
        for name, delay in (("c", 2.0), ("a", 1.0), ("b", 1.0)):
            loop.call_later(delay, lambda name=name: seen.append((name, loop.time())))
        loop.call_later(1.5, seen.append, "never").cancel()
        await asyncio.sleep(3600)

    loop.run_until_complete(main())
    assert seen == [("a", 1.0), ("b", 1.0), ("c", 2.0)]
    assert loop.time() == 3600


def test_tasks_timeouts_and_groups_work_in_virtual_time() -> None:
    async def main() -> str:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await asyncio.Event().wait()
        async with asyncio.TaskGroup() as tasks:
            slow = tasks.create_task(asyncio.sleep(10, "slow"))
        return slow.result()

    loop = new_loop()
    assert loop.run_until_complete(main()) == "slow"
    assert loop.time() == 15


def test_what_can_never_end_is_an_error() -> None:
    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(RuntimeError, match="hang"):
        new_loop().run_until_complete(main())


def test_a_callback_that_fails_ends_the_run() -> None:
    async def main() -> None:
        asyncio.get_running_loop().call_later(1, lambda: 1 / 0)
        await asyncio.sleep(2)

    with pytest.raises(ZeroDivisionError):
        new_loop().run_until_complete(main())
