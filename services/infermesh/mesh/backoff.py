"""How long to wait before trying again."""

from collections.abc import Callable
from typing import Final

_FACTOR: Final = 1.6


class Backoff:
    """Grows from try to try, with jitter so that peers of a restarted process don't come back all at once.

    `random` returns a number from 0 to 1.
    """

    def __init__(self, random: Callable[[], float], first: float = 0.1, most: float = 2.0) -> None:
        self._random = random
        self._first, self._most = first, most
        self._next = first

    def reset(self) -> None:
        """Begins anew after a success."""
        self._next = self._first

    def pause(self) -> float:
        """Returns the seconds to wait before the next try: `first` at first, `most` at most, each times 0.5 to 1."""
        seconds, self._next = self._next, min(self._most, self._next * _FACTOR)
        return seconds * (0.5 + self._random() / 2)
