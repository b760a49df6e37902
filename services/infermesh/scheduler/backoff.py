"""How long to wait before trying again."""

from collections.abc import Callable
from typing import Final

_FIRST: Final = 0.1
_MOST: Final = 2.0
_FACTOR: Final = 1.6


class Backoff:
    """Grows from try to try, with jitter so that peers of a restarted process don't come back all at once.

    `random` returns a number from 0 to 1.
    """

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._next = _FIRST

    def reset(self) -> None:
        """Begins anew after a success."""
        self._next = _FIRST

    def pause(self) -> float:
        """Returns the seconds to wait before the next try: 0.1 at first, 2 at most, each times 0.5 to 1."""
        seconds, self._next = self._next, min(_MOST, self._next * _FACTOR)
        return seconds * (0.5 + self._random() / 2)
