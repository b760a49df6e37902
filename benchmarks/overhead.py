"""The rows about calls through both hops beside an empty `grpc.aio` server: small ones, and one of 600 KB."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import models
from benchmarks.calls import Calls
from benchmarks.cost import compare
from benchmarks.pairs import Pairs, Ratio, Run
from benchmarks.rows import Row
from benchmarks.servers import System
from benchmarks.settings import Settings

BULKY = 8
"""Calls of 600 KB in flight."""


def mlp(folder: Path, base: System, other: System, settings: Settings) -> Iterator[Row]:
    """Yields the rows of the MLP at 64, 256 and 1 calls in flight; `other` serves it."""
    served = models.mlp()
    calls = Calls(folder / "mlp-call", served.request())
    served.check(calls.answer(other))
    at64 = compare(calls, base, other, 64, settings)
    yield _row("mlp-64-cpu", at64, at64.ratio(_cpu), 0.60, at_most=True)
    yield _row("mlp-64-rate", at64, at64.ratio(_rate), 2.0, at_most=False)
    at256 = compare(calls, base, other, 256, settings)
    yield _row("mlp-256-cpu", at256, at256.ratio(_cpu), 0.42, at_most=True)
    yield _row("mlp-256-rate", at256, at256.ratio(_rate), 2.8, at_most=False)
    alone = compare(calls, base, other, 1, settings)
    yield _row("mlp-1-cpu", alone, alone.ratio(_cpu), 3.0, at_most=True)
    p50 = alone.ratio(_p50)
    added = Ratio(p50.median - 1, p50.low - 1, p50.high - 1)
    yield _row("mlp-1-added-p50", alone, added, 1.5, at_most=True)


def front(folder: Path, base: System, other: System, settings: Settings) -> Iterator[Row]:
    """Yields what the same costs through the port of all protocols, which `other` is; there is no goal."""
    served = models.mlp()
    calls = Calls(folder / "front-call", served.request())
    served.check(calls.answer(other))
    for in_flight in (64, 256, 1):
        pairs = compare(calls, base, other, in_flight, settings)
        yield _row(f"front-{in_flight}-cpu", pairs, pairs.ratio(_cpu), math.nan, at_most=True)
        yield _row(f"front-{in_flight}-rate", pairs, pairs.ratio(_rate), math.nan, at_most=False)


def tensor(folder: Path, base: System, other: System, settings: Settings) -> Iterator[Row]:
    """Yields the row of the 600 KB tensor; `other` serves it."""
    served = models.tensor()
    calls = Calls(folder / "tensor-call", served.request())
    served.check(calls.answer(other))
    pairs = compare(calls, base, other, BULKY, settings)
    yield _row("tensor-600k-cpu", pairs, pairs.ratio(_cpu), 2.5, at_most=True)


def _row(name: str, pairs: Pairs, ratio: Ratio, goal: float, *, at_most: bool) -> Row:
    note = f"echo {_figures(pairs.base)}; mesh {_figures(pairs.other)}"
    return Row(name, ratio.median, goal, at_most, ratio.low, ratio.high, noisy=pairs.noisy, note=note)


def _figures(of: Callable[[Callable[[Run], float]], float]) -> str:
    return f"{of(_cpu):.0f} µs of CPU a call, {of(_rate):.0f}/s, p50 {1e3 * of(_p50):.2f} ms"


def _cpu(run: Run) -> float:
    return run.cpu_us


def _rate(run: Run) -> float:
    return run.rate


def _p50(run: Run) -> float:
    return run.p50
