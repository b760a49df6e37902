"""What the end of each worker would cost, so that idle ones go first. Pure; every method takes the time, in seconds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log2
from typing import Final

from infermesh.scheduler.demand import Load
from infermesh.scheduler.model import State, Worker

_PAUSE: Final = 5.0  # seconds between two changes of a worker's cost
_NEW: Final = 0.3  # weight of what a worker does now in its average
_STEPS: Final = 4  # of the cost for twice the calls
_MATERIAL: Final = 2  # steps
_STEP: Final = 100  # more than the versions that count
_GOING: Final = -1  # of one that is on its way out


@dataclass(slots=True)
class _Entry:
    incarnation: str
    calls: float
    cost: int = 0
    written: int | None = None
    at: float = 0.0
    unknown: bool = False


class DeletionCosts:
    """Costs by worker: its calls on a logarithmic scale first, then the versions that it has ready."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}

    def look(self, workers: Sequence[Worker], loads: Mapping[str, Load]) -> None:
        """Takes in what the workers do now; call it about once a second."""
        before = self._entries
        self._entries = {worker.id: _entry(worker, before.get(worker.id), loads) for worker in workers}

    def due(self, now: float, *, at_once: bool = False) -> list[tuple[str, int]]:
        """Returns the workers whose cost is to be written, with it: what has changed by much, and not a moment ago.

        `at_once` returns all that has changed.
        """
        found = []
        for worker, entry in self._entries.items():
            if entry.unknown or entry.cost == entry.written:
                continue
            soon = entry.written is not None and now - entry.at < _PAUSE
            if at_once or (not soon and _material(entry.written, entry.cost)):
                found.append((worker, entry.cost))
        return found

    def wrote(self, worker: str, cost: int, now: float) -> None:
        """The cost of a worker was written."""
        entry = self._entries.get(worker)
        if entry is not None:
            entry.written, entry.at = cost, now

    def forget(self, worker: str) -> None:
        """Nobody knows a worker of this name: nothing is written for it until another process has the name."""
        entry = self._entries.get(worker)
        if entry is not None:
            entry.unknown = True


def _entry(worker: Worker, known: _Entry | None, loads: Mapping[str, Load]) -> _Entry:
    calls = loads.get(worker.id, Load()).in_flight
    if known is None or known.incarnation != worker.incarnation:
        known = _Entry(worker.incarnation, calls)
    known.calls += _NEW * (calls - known.calls)
    ready = sum(held.state is State.READY for held in worker.held)
    # with the calls of this moment, too: what has just begun must not be taken for idle
    steps = round(_STEPS * log2(1 + max(known.calls, calls)))
    known.cost = _GOING if worker.draining else _STEP * steps + min(ready, _STEP - 1)
    return known


def _material(before: int | None, after: int) -> bool:
    if before is None:
        return True
    was, now = before // _STEP, after // _STEP
    return was == now or abs(was - now) >= _MATERIAL or 0 in (was, now)
