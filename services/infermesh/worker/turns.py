"""Which models of a worker execute now: so many at once as the device has cores, the most urgent first.

Runs that share a core take longer each, all of them, by nobody knows how much: nothing could be promised. One after
the other they take as long as was measured, and what waits meanwhile goes in larger batches.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf

Urgency = tuple[float, ...]
"""What is compared when turns are given: the smallest goes first."""


@dataclass(slots=True, eq=False)
class Turn:
    """What one model has in common with the others: asked for its urgency and for when what it executes will have
    ended (by the clock), told when it may execute."""

    urgency: Callable[[], Urgency]
    free_at: Callable[[], float]
    resume: Callable[[], None]


class Turns:
    """Gives turns. Belongs to one event loop; `resume` is called from within `take` and `give`."""

    def __init__(self, limit: int = 0) -> None:
        """`limit` is how many may execute at once; 0: all."""
        self._limit = limit
        self._running: dict[Turn, None] = {}
        self._waiting: dict[Turn, None] = {}

    def take(self, turn: Turn) -> bool:
        """Tells whether a model may execute now; if not, it is told when it may."""
        if not self._limit or turn in self._running:
            return True
        if not self._waiting and len(self._running) < self._limit:
            self._running[turn] = None
            return True
        self._waiting[turn] = None
        self._grant(turn)
        return turn in self._running

    def give(self, turn: Turn, again: bool = False) -> None:
        """Takes a model's turn back, or its wish for one; `again`: it wants another."""
        if not self._limit:
            return
        self._running.pop(turn, None)
        self._waiting.pop(turn, None)
        if again:
            self._waiting[turn] = None
        if self._waiting:
            self._grant(turn)

    def crowded(self) -> bool:
        """Tells whether somebody waits, so that nobody may execute on and on."""
        return bool(self._waiting)

    def free_at(self, turn: Turn) -> float:
        """Returns when a model could have its turn, by the clock; minus infinity if at once."""
        if not self._limit or turn in self._running or len(self._running) < self._limit:
            return -inf
        return min(other.free_at() for other in self._running)

    def _grant(self, asking: Turn) -> None:
        while self._waiting and len(self._running) < self._limit:
            chosen = min(self._waiting, key=lambda turn: turn.urgency())
            del self._waiting[chosen]
            self._running[chosen] = None
            if chosen is not asking:
                chosen.resume()
