"""A server and a clock in virtual time."""

import asyncio
from collections.abc import Callable

from infermesh.loadgen.plan import Plan
from infermesh.loadgen.recording import OK, Recording
from infermesh.loadgen.runner import Runner
from tests.unit.gateway import virtual


class LoopClock:
    """The virtual loop's time, from 0."""

    def __init__(self) -> None:
        self._start = asyncio.get_running_loop().time()

    def time(self) -> float:
        return asyncio.get_running_loop().time() - self._start

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))


class Server:
    """Answers after `seconds(now)`, or fails as `end(number)` says; remembers when each call came and its deadline."""

    def __init__(self, seconds: Callable[[float], float], end: Callable[[int], str] = lambda number: OK) -> None:
        self._seconds, self._end = seconds, end
        self.came: list[tuple[int, float, float]] = []
        self.most = self.now = 0

    def at(self, clock: LoopClock) -> "Server":
        self._clock = clock
        return self

    async def call(self, number: int, timeout: float) -> str:
        self.came.append((number, self._clock.time(), timeout))
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(self._seconds(self._clock.time()))
        self.now -= 1
        return self._end(number)


def run(plan: Plan, server: Server, start: float = 1.0) -> Recording:
    """Runs a plan in virtual time; its first call is due `start` seconds after time 0."""

    async def main() -> Recording:
        clock = LoopClock()
        return await Runner(plan, server.at(clock), clock).run(start)

    return virtual.run(main())
