"""When which request comes: Poisson and bursty processes over a mix of models. Pure functions of a seed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate
from math import inf
from random import Random
from typing import Final

_BURSTY_CV: Final = 4.0


@dataclass(frozen=True, slots=True)
class Request:
    """One request of a trace. `at` and `slo` are in seconds; its deadline is `at + slo`, none if `slo` is `inf`."""

    at: float
    model: str
    rows: int = 1
    slo: float = inf
    priority: int = 0


class Shape(StrEnum):
    """How arrivals are spread."""

    poisson = "poisson"
    """Independent of each other: gaps of coefficient of variation 1."""
    bursty = "bursty"
    """In bursts: gaps of a gamma distribution with coefficient of variation 4."""


def times(shape: Shape, rate: float, seconds: float, rng: Random) -> Iterator[float]:
    """Yields arrival times from 0 to `seconds`, `rate` a second on average."""
    form = 1.0 if shape is Shape.poisson else _BURSTY_CV**-2
    scale = 1.0 / (rate * form)
    at = rng.gammavariate(form, scale)
    while at < seconds:
        yield at
        at += rng.gammavariate(form, scale)


def zipf(count: int, exponent: float) -> list[float]:
    """Returns the shares (sum 1) of `count` models whose popularity falls with the power `exponent` of their rank."""
    weights = [rank**-exponent for rank in range(1, count + 1)]
    total = sum(weights)
    return [weight / total for weight in weights]


def requests(
    shape: Shape, rate: float, seconds: float, models: Sequence[str], shares: Sequence[float], slo: float, seed: int
) -> Iterator[Request]:
    """Yields requests of one row, each for a model drawn by its share."""
    rng = Random(seed)
    cumulated = list(accumulate(shares))
    for at in times(shape, rate, seconds, rng):
        name = models[0] if len(models) == 1 else rng.choices(models, cum_weights=cumulated)[0]
        yield Request(at, name, 1, slo)
