"""Makes the calls of a plan and records what became of them. Time and calls are passed in: tests run it in no time."""

import asyncio
from typing import Protocol

from infermesh.loadgen.arrivals import Arrivals
from infermesh.loadgen.plan import Plan
from infermesh.loadgen.recording import Recording
from infermesh.mesh.clock import Clock

LATE = "DEADLINE_EXCEEDED NOT_SENT"
"""How a call ends whose time was over before there was room to send it."""

_NOW = 1e-6  # seconds: closer than that a call is due


class Caller(Protocol):
    """Makes calls; may be asked for many at once."""

    async def call(self, number: int, timeout: float) -> str:
        """Sends message `number` (modulo) with a deadline in seconds; returns OK, or code and reason of its failure."""
        ...


class Runner:
    """Runs a plan once."""

    def __init__(self, plan: Plan, caller: Caller, clock: Clock) -> None:
        self._plan = plan
        self._caller = caller
        self._clock = clock
        self._room = asyncio.Semaphore(plan.in_flight)
        self._start = 0.0
        self.recording = Recording.of(plan.duration, plan.slo)

    async def run(self, start: float) -> Recording:
        """Makes the calls, the first of them due at or after `start` by the clock; returns when all have ended.

        Safe to cancel: calls under way are cancelled with it.
        """
        self._start = start
        await self._clock.sleep(start - self._clock.time())
        closed = self._plan.arrivals is Arrivals.closed
        await (self._closed() if closed else self._open())
        self.recording.elapsed = self._clock.time() - start
        return self.recording

    async def _open(self) -> None:
        """Sends each call when it is due; if a full house or a slow loop delays it, that is part of its latency."""
        async with asyncio.TaskGroup() as calls:
            for number, due in enumerate(self._plan.due().tolist()):
                while (wait := self._start + due - self._clock.time()) > _NOW:
                    await self._clock.sleep(wait)
                await self._room.acquire()
                calls.create_task(self._call(number, due))

    async def _call(self, number: int, due: float) -> None:
        try:
            await self._once(number, due)
        finally:
            self._room.release()

    async def _closed(self) -> None:
        """Keeps `in_flight` calls under way until the time is over; each is due when the one before it has ended."""
        async with asyncio.TaskGroup() as callers:
            for first in range(self._plan.in_flight):
                callers.create_task(self._again_and_again(first))

    async def _again_and_again(self, number: int) -> None:
        while (due := self._clock.time() - self._start) < self._plan.duration:
            await self._once(number, due)
            number += self._plan.in_flight

    async def _once(self, number: int, due: float) -> None:
        delay = self._clock.time() - self._start - due
        self.recording.sent(delay)
        if delay >= self._plan.timeout:
            self.recording.ended(due, delay, LATE)
            return
        end = await self._caller.call(number, self._plan.timeout - delay)
        self.recording.ended(due, self._clock.time() - self._start - due, end)
