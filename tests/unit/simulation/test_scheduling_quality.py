"""How good the scheduling is, in small: `python -m benchmarks.scheduling` does the same with many seeds and cells."""

from itertools import combinations
from random import Random

import pytest

from benchmarks.scheduling.baselines import Aimd, eager_edf, fixed_timeout
from benchmarks.scheduling.cells import Cell, measure
from benchmarks.scheduling.optimum import optimum
from benchmarks.scheduling.oracle import balance
from infermesh.simulation import Shape

SEEDS = (1, 2, 3)


@pytest.mark.parametrize(
    ("shape", "slo", "load", "goal"),
    [
        (Shape.poisson, 0.1, 1.0, 0.92),
        (Shape.bursty, 0.1, 0.75, 0.92),
        (Shape.poisson, 0.025, 2.0, 0.85),
        (Shape.bursty, 0.1, 2.0, 0.85),
    ],
)
def test_goodput_is_near_what_could_be_done_with_the_future_known(
    shape: Shape, slo: float, load: float, goal: float
) -> None:
    for seed in SEEDS:
        found = measure(Cell("one", shape, slo, load), seed, 1_000)
        assert found.report.good >= goal * found.best
        assert (found.report.wasted, found.report.hopeless) == (0, 0), "work on what was too late"
        assert found.report.refusal_lag <= 0.005


def test_promises_are_kept() -> None:
    reports = [
        measure(Cell("one", shape, slo, load), 7, 1_000).report
        for shape, slo, load in [(Shape.poisson, 0.1, 2.0), (Shape.bursty, 0.5, 2.0), (Shape.bursty, 0.1, 1.0)]
    ]
    assert sum(report.late + report.expired for report in reports) == 0


@pytest.mark.parametrize("planner", [fixed_timeout(0.005), Aimd, eager_edf])
def test_other_planners_do_worse_under_overload(planner) -> None:  # type: ignore[no-untyped-def]
    cell = Cell("one", Shape.poisson, 0.1, 1.5)
    assert measure(cell, 1, 800, planner).report.good < measure(cell, 1, 800).report.good


def test_least_load_is_near_the_oracle_with_one_worker_slow() -> None:
    found = balance(seed=1, count=4_000)
    assert found["least_load"] <= 1.4 * found["oracle"]
    assert found["least_load"] < found["random"]


def brute(arrivals: list[float], slo: float, times: list[float]) -> int:
    """Tries every order of every batch."""
    best = 0

    def go(left: frozenset[int], free: float, done: int) -> None:
        nonlocal best
        best = max(best, done)
        for rows in range(1, min(len(left), len(times) - 1) + 1):
            for batch in combinations(sorted(left), rows):
                end = max(free, arrivals[batch[-1]]) + times[rows]
                if end <= arrivals[batch[0]] + slo + 1e-12:
                    go(left - set(batch), end, done + rows)

    go(frozenset(range(len(arrivals))), 0.0, 0)
    return best


def test_the_optimum_is_the_best_of_all_schedules() -> None:
    rng = Random(1)
    for _ in range(150):
        arrivals = sorted(rng.uniform(0, rng.choice([1, 3, 6])) for _ in range(rng.randint(0, 5)))
        times = [0.0, *sorted(rng.uniform(0.2, 2) for _ in range(rng.randint(1, 4)))]
        slo = rng.uniform(0.2, 4)
        assert optimum(arrivals, slo, times) == brute(arrivals, slo, times)
