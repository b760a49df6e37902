"""Leadership by election: whoever holds the Lease leads, for as long as it can renew it."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

import structlog

from infermesh.errors import Conflict, MeshError
from infermesh.mesh.clock import Clock
from infermesh.scheduler.leadership.base import LeaseStore
from infermesh.scheduler.leadership.candidate import Candidate

_SPREAD: Final = 0.2  # share by which pauses differ, so that candidates don't try all at once
_AT_ONCE: Final = 2  # tries in a row where a lost compare-and-swap tells that the Lease has changed
_GOODBYES: Final = 3


class Election:
    """A Leadership. `retry` is in seconds between two tries, `random` returns a number from 0 to 1."""

    def __init__(
        self, store: LeaseStore, candidate: Candidate, retry: float, clock: Clock, random: Callable[[], float]
    ) -> None:
        self._store = store
        self._candidate = candidate
        self._retry = retry
        self._clock = clock
        self._random = random
        self._fresh = False  # whether the Lease is known as this process itself wrote it
        self._trouble = self._how = ""
        self._changed = asyncio.Event()
        self._log = structlog.get_logger(__name__)

    async def run(self) -> None:
        """See Leadership."""
        while True:
            begun = self._clock.time()
            await self._try()
            self._changed.set()
            self._changed = asyncio.Event()
            await self._clock.sleep(self._pause(begun))

    def _pause(self, begun: float) -> float:
        """Returns the seconds until the next try: sooner where the Lease ends sooner, if nobody renews it."""
        now = self._clock.time()
        at = begun + self._retry * (1 - _SPREAD * self._random())
        if now < self._candidate.free_at() < at:
            at = self._candidate.free_at()
        return max(0.0, at - now)

    async def _try(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                await self._get_or_renew()
            except Conflict:
                continue
            except MeshError as error:
                self._say_trouble(error)
                return
            self._trouble = ""
            return

    async def _get_or_renew(self) -> None:
        now = self._clock.time
        if not self._fresh:
            self._candidate.observe(await self._store.read(), now())
        proposal = self._candidate.proposal(now())
        if proposal is None:
            return
        how = self._how if self.holds() else self._candidate.claim()
        self._fresh, asked = False, now()
        self._candidate.won(await self._store.write(proposal), asked)
        self._fresh, self._how = True, how

    def _say_trouble(self, error: MeshError) -> None:
        if error.message != self._trouble:
            self._log.warning("lease not reached", why=error.message, leader=self.holds())
        self._trouble = error.message

    async def gained(self) -> str:
        """See Leadership."""
        while not self.holds():
            await self._changed.wait()
        return self._how

    async def lost(self) -> str:
        """See Leadership."""
        while self.holds():
            await self._change_or(self._candidate.until - self._clock.time())
        holder = self._candidate.holder
        if holder != self._candidate.identity:
            return f"the lease is held by {holder or 'nobody'}"
        return f"the lease was not renewed in time: {self._trouble or 'this process was held up'}"

    async def _change_or(self, seconds: float) -> None:
        """Returns after the next try, or when the time is over."""
        waits = [asyncio.ensure_future(self._changed.wait()), asyncio.ensure_future(self._clock.sleep(seconds))]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def holds(self) -> bool:
        """See Leadership."""
        return self._candidate.leads(self._clock.time())

    async def release(self) -> None:
        """See Leadership."""
        try:
            for _ in range(_GOODBYES):
                with contextlib.suppress(Conflict):
                    await self._give_up()
                    return
        except MeshError as error:
            self._log.warning("lease not given back: others wait until it ends", why=error.message)

    async def _give_up(self) -> None:
        if not self._fresh:  # what was cancelled last may have been written
            self._candidate.observe(await self._store.read(), self._clock.time())
        self._fresh = False
        lease = self._candidate.resign()
        if lease is not None:
            await self._store.write(lease)
