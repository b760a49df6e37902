"""Warm-up: builds batches of a size and measures how long they take. Pure but for the clock; used inside runners."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from statistics import median
from typing import Final

import numpy as np

from infermesh.tensors import Array, numpy_dtype
from infermesh.v1 import model_pb2

Feed = Mapping[str, Array]
BatchTimes = tuple[tuple[int, float], ...]

_REPEATS: Final = 7
_NEXT: Final = 4
"""Times as long as a size the next one takes: it has twice the rows, is run twice, and its first run does not count."""
_ENOUGH: Final = 0.15
"""A thread more must save this share of the time to be worth its core."""
_CHANCE: Final = 1.5
"""Times as long as the best a number of threads may have taken to be tried again."""
_TURNS: Final = 5
_RUNS: Final = 2
"""Of a turn: the first one starts the threads."""


def batch_sizes(max_batch_size: int) -> list[int]:
    """Returns 1, 2, 4, … and `max_batch_size`; just 1 where the model has no batch dimension (0)."""
    sizes = [1]
    while sizes[-1] * 2 < max_batch_size:
        sizes.append(sizes[-1] * 2)
    return [*sizes, max_batch_size] if max_batch_size > 1 else sizes


def zeros(signature: model_pb2.Signature) -> dict[str, Array]:
    """Returns inputs of one row and zeros; sizes that the signature leaves open are 1."""
    feed = {}
    for spec in signature.inputs:
        shape = tuple(1 if size < 0 else size for size in spec.shape)
        feed[spec.name] = np.full(shape, b"" if spec.datatype == "BYTES" else 0, dtype=numpy_dtype(spec.datatype))
    return feed


def tile(feed: Feed, rows: int) -> dict[str, Array]:
    """Returns a copy of `feed`, repeated and cut along the first dimension to so many rows."""
    return {name: np.array(_rows(array, rows), order="C") for name, array in feed.items()}


def _rows(array: Array, rows: int) -> Array:
    have = len(array)
    repeated = array if have >= rows else np.concatenate([array] * -(-rows // max(have, 1)))
    return repeated[:rows]


def measure(
    run: Callable[[Feed], object],
    feed: Feed,
    max_batch_size: int,
    budget: float,
    clock: Callable[[], float],
) -> BatchTimes:
    """Returns rows and seconds of batches that grow until `max_batch_size` or until about `budget` seconds are used.

    Each size takes its share of what is left at most: large ones tell more than many repeats of small ones. Raises what
    `run` raises.
    """
    end = clock() + budget
    times: list[tuple[int, float]] = []
    sizes = batch_sizes(max_batch_size)
    for at, rows in enumerate(sizes):
        batch = tile(feed, rows) if max_batch_size else dict(feed)
        share = clock() + (end - clock()) / (len(sizes) - at)
        once = partial(run, batch)
        first = _once(once, clock)
        samples: list[float] = []
        while len(samples) < _REPEATS and clock() < (share if samples else end):
            samples.append(_once(once, clock))
        times.append((rows, median(samples) if samples else first))
        if clock() + _NEXT * times[-1][1] > end:
            break
    return tuple(times)


def _once(run: Callable[[], object], clock: Callable[[], float]) -> float:
    started = clock()
    run()
    return clock() - started


def thread_choices(threads: int) -> list[int]:
    """Returns the numbers of threads to try, fewest first: powers of two below the limit, and the limit."""
    choices = [1]
    while choices[-1] * 2 < threads:
        choices.append(choices[-1] * 2)
    return [*choices, threads] if threads > 1 else choices


def largest_common(measured: Iterable[BatchTimes]) -> tuple[int, list[float]]:
    """Returns the most rows that were measured each time, and their seconds. Batches are at least as large under load,
    which is when the number of threads matters.
    """
    times = list(measured)
    last = min(map(len, times)) - 1
    return times[0][last][0], [each[last][1] for each in times]


def race(
    use: Callable[[int], None],
    run: Callable[[], object],
    measured: dict[int, float],
    budget: float,
    clock: Callable[[], float],
) -> dict[int, float]:
    """Returns the least seconds that `run` took with each number of threads, of `measured` and of runs in turn.

    Something else may have had a core while one of them was measured, and a choice is for as long as a model is loaded.
    What disturbs comes and goes, and never makes a run faster: so those that have a chance take turns, and the least
    counts. `use` sets the threads; those that were measured last are set. No turn begins that would not end within
    `budget` seconds. Raises what `run` raises.
    """
    end, least = clock() + budget, dict(measured)
    chance = _CHANCE * min(measured.values())
    turn = [threads for threads in reversed(measured) if measured[threads] <= chance]
    for _ in range(_TURNS if len(turn) > 1 else 0):
        for threads in turn:
            if clock() + _RUNS * measured[threads] > end:
                return least
            use(threads)
            least[threads] = min(least[threads], *(_once(run, clock) for _ in range(_RUNS)))
        turn.reverse()  # the one that is set goes on, and began: to change is dear for some backends
    return least


def best_threads(times: Mapping[int, float]) -> int:
    """Returns the number of threads to use, of those whose seconds are given: more only where they clearly pay."""
    best = min(times)
    for threads in sorted(times):
        if times[threads] < times[best] * (1 - _ENOUGH):
            best = threads
    return best
