"""Warm-up: builds batches of a size and measures how long they take. Pure but for the clock; used inside runners."""

from collections.abc import Callable, Mapping, Sequence
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
        first = _once(run, batch, clock)
        samples: list[float] = []
        while len(samples) < _REPEATS and clock() < (share if samples else end):
            samples.append(_once(run, batch, clock))
        times.append((rows, median(samples) if samples else first))
        if clock() + _NEXT * times[-1][1] > end:
            break
    return tuple(times)


def _once(run: Callable[[Feed], object], batch: dict[str, Array], clock: Callable[[], float]) -> float:
    started = clock()
    run(batch)
    return clock() - started


def thread_choices(threads: int) -> list[int]:
    """Returns the numbers of threads to try, fewest first: powers of two below the limit, and the limit."""
    choices = [1]
    while choices[-1] * 2 < threads:
        choices.append(choices[-1] * 2)
    return [*choices, threads] if threads > 1 else choices


def best_threads(measured: Sequence[tuple[int, BatchTimes]]) -> int:
    """Returns the number of threads whose time is best at the largest size that all of them reached.

    Under load, which is when it matters, batches are at least as large. `measured` is in ascending order of threads;
    more are taken only where they clearly pay.
    """
    last = min(len(times) for _, times in measured) - 1
    best, score = measured[0][0], measured[0][1][last][1]
    for threads, times in measured[1:]:
        other = times[last][1]
        if other < score * (1 - _ENOUGH):
            best, score = threads, other
    return best
