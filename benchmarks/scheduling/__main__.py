"""Prints how good the scheduling is, one row for each goal: `NAME VALUE GOAL ok|short`; exits with 1 if one is short.

Usage: python -m benchmarks.scheduling [--seeds 20] [--requests 5000] [--processes 2] [--million]
Everything runs in virtual time, so that the machine decides how long it takes and not what comes out.
"""

import argparse
import logging
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product

import structlog

from benchmarks.scheduling.baselines import Aimd, eager_edf, fixed_timeout
from benchmarks.scheduling.cells import MIXES, SHAPES, SLOS, Cell, Found, measure
from benchmarks.scheduling.oracle import balance
from infermesh.simulation import CURVES, Model, Scenario, Shape, simulate
from infermesh.simulation.arrivals import requests
from infermesh.worker.batcher import Planner, plan

LOADS = (0.5, 0.75, 1.0, 2.0)
TIMEOUTS = (0.002, 0.010)


def _planner(name: str) -> Callable[[], Planner]:
    if name.startswith("timeout"):
        return fixed_timeout(float(name.split()[1]))
    table: dict[str, Callable[[], Planner]] = {"ours": lambda: plan, "aimd": Aimd, "eager": eager_edf}
    return table[name]


OTHERS = (*(f"timeout {seconds}" for seconds in TIMEOUTS), "aimd", "eager")


@dataclass(frozen=True)
class Row:
    """One goal: `value` must be at least `goal`, or at most where `most` is set."""

    name: str
    value: float
    goal: float
    most: bool = False

    @property
    def met(self) -> bool:
        """Tells whether the goal is reached."""
        return self.value <= self.goal if self.most else self.value >= self.goal

    def __str__(self) -> str:
        sign = "<=" if self.most else ">="
        return f"{self.name} {self.value:.5g} {sign}{self.goal:g} {'ok' if self.met else 'short'}"


def _measure(task: tuple[Cell, int, int, str]) -> Found:
    cell, seed, count, planner = task
    return measure(cell, seed, count, _planner(planner))


def _quiet() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))


def goodput(pool: ProcessPoolExecutor, seeds: int, count: int) -> Iterator[Row]:
    """Goodput beside the optimum: one model, every load, every seed."""
    cells = [Cell("one", shape, slo, load) for shape, slo, load in product(SHAPES, SLOS, LOADS)]
    tasks = [(cell, seed, count, "ours") for cell in cells for seed in range(seeds)]
    found = dict(zip([(cell, seed) for cell, seed, *_ in tasks], pool.map(_measure, tasks), strict=True))
    print(f"goodput / optimum, worst (mean) of {seeds} seeds; loads {LOADS}")
    worst: dict[Cell, float] = {}
    for shape, slo in product(SHAPES, SLOS):
        line = []
        for load in LOADS:
            cell = Cell("one", shape, slo, load)
            shares = [found[cell, seed].quality for seed in range(seeds)]
            worst[cell] = min(shares)
            line.append(f"{min(shares):.3f} ({sum(shares) / seeds:.3f})")
        print(f"  {shape:8} {slo * 1e3:4.0f} ms  " + "  ".join(line))
    yield Row("goodput-to-100%", min(value for cell, value in worst.items() if cell.load <= 1.0), 0.92)
    yield Row("goodput-at-200%", min(value for cell, value in worst.items() if cell.load > 1.0), 0.85)


def _stalling(task: tuple[Cell, int, int]) -> Found:
    return measure(*task, stalls=1e-4)


def promises(pool: ProcessPoolExecutor, seeds: int, count: int) -> Iterator[Row]:
    """What becomes of the admitted and of the refused, at and beyond saturation, where 1 execution in 10,000 stalls."""
    cells = [Cell("one", shape, slo, load) for shape, slo, load in product(SHAPES, SLOS, LOADS[2:])]
    reports = [
        one.report for one in pool.map(_stalling, [(cell, seed, count) for cell in cells for seed in range(seeds)])
    ]
    admitted = sum(report.requests - report.refused for report in reports)
    yield Row("admitted-in-deadline", sum(report.good for report in reports) / admitted, 0.9999)
    yield Row("worker-ms-on-late", sum(report.wasted for report in reports) * 1e3, 0.0, most=True)
    yield Row("refusal-ms-after-knowable", max(report.refusal_lag for report in reports) * 1e3, 5.0, most=True)


def planners(pool: ProcessPoolExecutor, seeds: int, count: int) -> Iterator[Row]:
    """Ours beside other planners, in every cell: goodput over the loads, and how far the others are behind."""
    grid = list(product(MIXES, SLOS, SHAPES))
    names = ("ours", *OTHERS)
    loads = LOADS[1:]
    tasks = [
        (Cell(mix, shape, slo, load), seed, count, name)
        for mix, slo, shape in grid
        for name in names
        for load in loads
        for seed in range(seeds)
    ]
    good: dict[tuple[str, float, Shape, str], int] = {}
    for (cell, _, _, name), found in zip(tasks, pool.map(_measure, tasks), strict=True):
        key = (cell.mix, cell.slo, cell.shape, name)
        good[key] = good.get(key, 0) + found.report.good
    print(f"answered in time, sum over loads {loads} and {seeds} seeds: {', '.join(names)}")
    margins = []
    for mix, slo, shape in grid:
        values = [good[mix, slo, shape, name] for name in names]
        margins.append(values[0] / max(values[1:]))
        print(
            f"  {mix:5} {slo * 1e3:4.0f} ms {shape:8} " + " ".join(f"{v:7}" for v in values) + f"  x{margins[-1]:.3f}"
        )
    yield Row("ours/best-other-planner-worst-cell", min(margins), 1.0)


def balancing(seeds: int, count: int) -> Iterator[Row]:
    """least_load beside the oracle; round_robin and random for reference."""
    found = [balance(seed, count) for seed in range(seeds)]
    for name in ("least_load", "round_robin", "random"):
        ratios = [one[name] / one["oracle"] for one in found]
        print(f"p99 / oracle  {name:11} mean {sum(ratios) / seeds:.3f}, worst of {seeds} seeds {max(ratios):.3f}")
    yield Row("least_load-p99/oracle", max(one["least_load"] / one["oracle"] for one in found), 1.25, most=True)


def million(count: int = 1_000_000) -> Iterator[Row]:
    """How long a simulation of so many requests takes, in seconds of one core."""
    model = Model(CURVES["ranker"], 32)
    rate = 0.8 * 4 * model.curve.throughput(32)
    began = time.process_time()
    report = simulate(
        Scenario({"a": model}, workers=4), requests(Shape.poisson, rate, count / rate, ["a"], [1.0], 0.1, 1)
    )
    spent = time.process_time() - began
    yield Row("million-requests-seconds", spent * 1_000_000 / report.requests, 120.0, most=True)


def main() -> None:
    """Measures, prints the rows, exits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20, help="seeds of every cell; the worst counts")
    parser.add_argument("--requests", type=int, default=5_000, help="requests of every cell and seed")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--million", action="store_true", help="simulate a whole million instead of a tenth of it")
    options = parser.parse_args()
    _quiet()
    rows = list(million(1_000_000 if options.million else 100_000))
    with ProcessPoolExecutor(options.processes, initializer=_quiet) as pool:
        rows += goodput(pool, options.seeds, options.requests)
        rows += promises(pool, options.seeds, options.requests)
        rows += planners(pool, max(1, options.seeds // 5), options.requests // 5)
    rows += balancing(max(1, options.seeds // 4), 4 * options.requests)
    print(*rows, sep="\n")
    sys.exit(0 if all(row.met for row in rows) else 1)


if __name__ == "__main__":
    main()
