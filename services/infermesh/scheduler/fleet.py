"""Which workers are alive: a state machine over heartbeats. Pure; every method takes the time, in seconds."""

from dataclasses import dataclass
from typing import Final

from infermesh.scheduler.model import Worker

SILENT_BEATS: Final = 3
"""Heartbeats that a worker may miss before it is gone."""
_FORGET: Final = 20  # silences after which it no longer matters that a process was replaced


@dataclass(slots=True)
class _Entry:
    worker: Worker
    heard: float


@dataclass(frozen=True, slots=True)
class _Retired:
    incarnation: str
    since: float


class Fleet:
    """The workers that are alive. `interval` is the time between two heartbeats of a worker."""

    def __init__(self, interval: float, now: float) -> None:
        self._interval = interval
        self._entries: dict[str, _Entry] = {}
        self._retired: dict[str, _Retired] = {}
        self._looked = now

    @property
    def silence(self) -> float:
        """Seconds without a heartbeat after which a worker is gone."""
        return SILENT_BEATS * self._interval

    def hear(self, worker: Worker, now: float) -> bool:
        """Takes in a heartbeat; returns whether it told anything new.

        A new process (incarnation) replaces the old one of its name, of which nothing more is heard. A worker that was
        given up comes back.
        """
        entry = self._entries.get(worker.id)
        if self.is_retired(worker):
            return False
        if entry and entry.worker.incarnation != worker.incarnation:
            self._retired[worker.id] = _Retired(entry.worker.incarnation, now)
        self._entries[worker.id] = _Entry(worker, now)
        return entry is None or entry.worker != worker

    def leave(self, worker: Worker, now: float) -> bool:
        """Forgets a worker at once; returns whether it was there. Late heartbeats of that process count nothing."""
        entry = self._entries.get(worker.id)
        if entry and entry.worker.incarnation != worker.incarnation:
            return False  # its successor stays
        self._retired[worker.id] = _Retired(worker.incarnation, now)
        return self._entries.pop(worker.id, None) is not None

    def is_retired(self, worker: Worker) -> bool:
        """Tells whether this process was replaced by another of its name, or said that it leaves."""
        retired = self._retired.get(worker.id)
        return retired is not None and retired.incarnation == worker.incarnation

    def expire(self, now: float) -> list[Worker]:
        """Gives up the workers that have been silent for too long and returns them. Call it every interval or sooner.

        If the scheduler itself did not run for longer than that, it could hear nobody: that time is not held against
        the workers.
        """
        gap, self._looked = now - self._looked, now
        slept = gap if gap > self._interval else 0.0
        gone = []
        for entry in list(self._entries.values()):
            entry.heard = min(now, entry.heard + slept)
            if now - entry.heard >= self.silence:
                gone.append(self._entries.pop(entry.worker.id).worker)
        self._forget(now)
        return gone

    def _forget(self, now: float) -> None:
        old = [name for name, retired in self._retired.items() if now - retired.since > _FORGET * self.silence]
        for name in old:
            del self._retired[name]

    def workers(self) -> tuple[Worker, ...]:
        """Returns the workers that are alive, sorted by id."""
        return tuple(self._entries[name].worker for name in sorted(self._entries))
