"""A and B in turn, and what their ratio is: the statistics of every row. Pure, but for the runs themselves."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

NOISY: Final = 1.2  # above this ratio of the base's most and least expensive run, a row says nothing certain


@dataclass(frozen=True)
class Run:
    """One run of a load: CPU microseconds per call of the whole system, calls per second, latencies in seconds,
    and how many calls there were."""

    cpu_us: float
    rate: float
    p50: float
    p99: float
    calls: int = 0


@dataclass(frozen=True)
class Ratio:
    """The median of the pairs' ratios, and the least and greatest of them."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f}x ({self.low:.2f}-{self.high:.2f})"


@dataclass(frozen=True)
class Pairs:
    """Runs of a base and of another system, each of the one beside one of the other."""

    runs: Sequence[tuple[Run, Run]]

    def ratio(self, what: Callable[[Run], float]) -> Ratio:
        """Returns the other's figure over the base's."""
        ratios = [what(other) / what(base) for base, other in self.runs]
        return Ratio(statistics.median(ratios), min(ratios), max(ratios))

    @property
    def noisy(self) -> bool:
        """True if the base itself moved by more than 20 %, in CPU per call."""
        own = [base.cpu_us for base, _ in self.runs]
        return max(own) > NOISY * min(own)

    def base(self, what: Callable[[Run], float]) -> float:
        """Returns the median of the base's figure."""
        return statistics.median(what(base) for base, _ in self.runs)

    def other(self, what: Callable[[Run], float]) -> float:
        """Returns the median of the other's figure."""
        return statistics.median(what(other) for _, other in self.runs)


def interleave(base: Callable[[], Run], other: Callable[[], Run], pairs: int) -> Pairs:
    """Runs both in turn, A/B/A/B."""
    return Pairs([(base(), other()) for _ in range(pairs)])
