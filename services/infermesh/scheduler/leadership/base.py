"""The seams of leadership: who may lead, and where the Lease is kept."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol


class Leadership(Protocol):
    """Says whether this process is the one that leads."""

    async def run(self) -> None:
        """Tries to lead, and to go on leading, for ever; to be cancelled."""
        ...

    async def gained(self) -> str:
        """Returns how it came to it, as soon as this process leads. Safe to cancel."""
        ...

    async def lost(self) -> str:
        """Returns why, as soon as this process leads no longer: in time to stop before another can lead. Safe to
        cancel."""
        ...

    def holds(self) -> bool:
        """Tells whether this process leads now. Does not block."""
        ...

    async def release(self) -> None:
        """Gives up leading, so that another may at once. After `run` was cancelled, and after all was stopped that only
        the leader may do. Never raises."""
        ...


@dataclass(frozen=True, slots=True)
class Lease:
    """What everybody agrees on.

    `holder` is empty while nobody leads; `duration` is what the holder promises: seconds without renewal after which it
    leads no more, 0 if it promised nothing; `transitions` counts holders; `acquired` is for people, None stands for
    now. `version` differs after every write, and is empty before the first; `origin` is the store's own.
    """

    holder: str = ""
    duration: int = 0
    transitions: int = 0
    acquired: datetime | None = field(default=None, compare=False)
    version: str = ""
    origin: object = field(default=None, compare=False, repr=False)


class LeaseStore(Protocol):
    """Keeps one Lease. Both calls end in less than the time between two tries, whatever happens to the store."""

    async def read(self) -> Lease | None:
        """Returns the Lease; None if there is none. Raises NotReady if the store does not answer, or refuses."""
        ...

    async def write(self, lease: Lease) -> Lease:
        """Writes it if what is there has still its `version` (empty: if there is none), and returns what was written.

        Raises Conflict if something else is there, NotReady if the store does not answer or refuses. After NotReady,
        or after it was cancelled, the Lease may have been written all the same, or may be yet.
        """
        ...
