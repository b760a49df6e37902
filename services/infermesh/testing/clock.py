"""A `mesh.clock.Clock` whose time only moves when a test says so."""

import asyncio
import heapq
from itertools import count

_SETTLE_ROUNDS = 20  # turns of the event loop in which woken tasks may do all that they can without time passing


class FakeClock:
    """Virtual time: `sleep` returns when `advance` has moved the time far enough, and not before.

    Sleepers wake in the order of their deadlines, each at its exact time; those of the same deadline in the order in
    which they fell asleep. A task that goes to sleep again while time is advanced may wake again in the same advance.
    """

    def __init__(self, start: float = 1_000.0) -> None:
        self._now = start
        self._order = count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def time(self) -> float:
        """Returns the virtual time in seconds."""
        return self._now

    async def sleep(self, seconds: float) -> None:
        """Waits for virtual time to pass. Safe to cancel; 0 or less only lets others run."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + seconds, next(self._order), waiter))
        await waiter

    def sleepers(self) -> int:
        """Returns how many tasks are asleep."""
        return sum(not waiter.done() for _, _, waiter in self._sleepers)

    async def advance(self, seconds: float) -> None:
        """Moves time forward, waking sleepers on the way, and lets the woken tasks run. Raises ValueError below 0."""
        if seconds < 0:
            raise ValueError(f"time never goes back: expected seconds >= 0, got {seconds}")
        target = self._now + seconds
        await self.settle()
        while self._sleepers and self._sleepers[0][0] <= target:
            self._now = max(self._now, self._sleepers[0][0])
            self._wake_due()
            await self.settle()
        self._now = target
        await self.settle()

    async def settle(self) -> None:
        """Lets every task that is ready run, without moving time."""
        for _ in range(_SETTLE_ROUNDS):
            await asyncio.sleep(0)

    def _wake_due(self) -> None:
        while self._sleepers and self._sleepers[0][0] <= self._now:
            _, _, waiter = heapq.heappop(self._sleepers)
            if not waiter.done():  # done: its task was cancelled meanwhile
                waiter.set_result(None)
