"""Traffic shares: which version the next unnamed call goes to. Used by the route table."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from random import Random
from typing import Final, Generic, TypeVar

T = TypeVar("T")

# The fractional part of the golden ratio: multiples of it fill the unit interval more evenly than any other number's.
_STEP: Final = (5**0.5 - 1) / 2


class Shares(Generic[T]):
    """Values drawn in proportion to their weights, evenly.

    Each draw moves a point on a circle by a fixed irrational step, and the arc it falls on is the answer. With the
    start random, the expected share is exact; with the step, n draws miss it by only O(log n) calls, where
    independent draws would miss it by O(√n): 10 % of 500 calls are 50 ± 2.
    """

    def __init__(self, weights: Sequence[tuple[T, float]], rng: Random) -> None:
        total = sum(weight for _, weight in weights)
        self._values = [value for value, _ in weights]
        # the last bound is left out: it is 1 but for rounding
        self._bounds = [bound / total for bound in accumulate(weight for _, weight in weights)][:-1]
        self._point = rng.random()
        self.only = self._values[0] if len(self._values) == 1 else None
        """The value, where there is but one."""

    def __bool__(self) -> bool:
        return bool(self._values)

    def draw(self) -> T:
        """Returns the next value. There must be one."""
        if not self._bounds:
            return self._values[0]
        self._point = (self._point + _STEP) % 1.0
        return self._values[bisect_right(self._bounds, self._point)]
