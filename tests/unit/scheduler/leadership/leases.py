"""A Lease in memory, as exact about versions as an API server, and a way to it on which requests are late or lost."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from infermesh.errors import Conflict, NotReady
from infermesh.mesh.clock import Clock
from infermesh.scheduler.leadership.base import Lease

T = TypeVar("T")


class Board:
    """The Lease as everybody sees it."""

    def __init__(self) -> None:
        self.lease: Lease | None = None
        self._version = 0

    def write(self, lease: Lease) -> Lease:
        """Compares and swaps. Raises Conflict; NotReady for a change of what is not there, as an API server does."""
        if self.lease is None and lease.version:
            raise NotReady("404")
        if lease.version != (self.lease.version if self.lease else ""):
            raise Conflict("409")
        return self.edit(lease)

    def edit(self, lease: Lease) -> Lease:
        """Writes, whatever is there."""
        self._version += 1
        self.lease = replace(lease, version=str(self._version))
        return self.lease

    def delete(self) -> None:
        """Takes it away."""
        self.lease = None


@dataclass(frozen=True)
class Fate:
    """What becomes of one request: seconds on the way there and back, whether it arrives, whether its answer does."""

    there: float = 0.0
    back: float = 0.0
    arrives: bool = True
    answered: bool = True


def smooth() -> Fate:
    """The fate of a request where nothing is wrong."""
    return Fate()


class RemoteLease:
    """A LeaseStore over a Board. A request that is not answered within `timeout` fails, and may arrive all the same."""

    def __init__(self, board: Board, clock: Clock, timeout: float = 1.4, fate: Callable[[], Fate] = smooth) -> None:
        self._board = board
        self._clock = clock
        self._timeout = timeout
        self._late: set[asyncio.Future[None]] = set()
        self.fate = fate
        self.requests = 0

    async def read(self) -> Lease | None:
        return await self._travel(lambda: self._board.lease)

    async def write(self, lease: Lease) -> Lease:
        return await self._travel(lambda: self._board.write(lease))

    async def _travel(self, request: Callable[[], T]) -> T:
        self.requests += 1
        fate = self.fate()
        on_time = fate.arrives and fate.answered and fate.there + fate.back <= self._timeout
        if not on_time:
            if fate.arrives:
                self._send(request, fate.there)
            await self._clock.sleep(self._timeout)
            raise NotReady("no answer")
        await self._clock.sleep(fate.there)
        try:
            return request()
        finally:
            await self._clock.sleep(fate.back)

    def _send(self, request: Callable[[], object], there: float) -> None:
        async def arrive() -> None:
            await self._clock.sleep(there)
            with contextlib.suppress(Conflict, NotReady):
                request()

        late = asyncio.ensure_future(arrive())
        self._late.add(late)
        late.add_done_callback(self._late.discard)
