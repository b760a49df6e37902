"""What is measured: a mix of models, a shape of arrivals, a deadline and a load, on one worker."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

from benchmarks.scheduling.optimum import optimum
from infermesh.simulation import CURVES, Model, Noise, Report, Scenario, Shape, simulate
from infermesh.simulation.arrivals import requests, zipf
from infermesh.worker.batcher import Planner, plan

_PICTURE = Model(CURVES["picture"], 16)
_RANKER = Model(CURVES["ranker"], 32)


@dataclass(frozen=True)
class Mix:
    """Models on one worker and their shares of the requests."""

    models: Mapping[str, Model]
    shares: tuple[float, ...]

    def capacity(self) -> float:
        """Returns the most requests a second that the worker can do, every batch at its best."""
        pairs = zip(self.models.values(), self.shares, strict=True)
        return 1 / sum(share / model.curve.throughput(model.max_batch) for model, share in pairs)


MIXES = {
    "one": Mix({"picture": _PICTURE}, (1.0,)),
    "ten": Mix({f"model-{n}": _PICTURE if n % 2 else _RANKER for n in range(10)}, tuple(zipf(10, 1.0))),
    "many": Mix({f"model-{n}": _RANKER for n in range(100)}, tuple(zipf(100, 0.9))),
}
SHAPES = (Shape.poisson, Shape.bursty)
SLOS = (0.025, 0.1, 0.5)


@dataclass(frozen=True)
class Cell:
    """One cell of the table at one load. `slo` is in seconds, `load` a share of the mix' capacity."""

    mix: str
    shape: Shape
    slo: float
    load: float


@dataclass(frozen=True)
class Found:
    """What came out: `best` is the most that anybody could have answered in time."""

    report: Report
    best: int

    @property
    def quality(self) -> float:
        """Share of the best."""
        return self.report.good / self.best if self.best else 1.0


def measure(
    cell: Cell, seed: int, count: int, planner: Callable[[], Planner] = lambda: plan, stalls: float = 0.0
) -> Found:
    """Simulates about `count` requests. `stalls` is the share of executions that take ten times as long.

    The optimum knows no stalls, and a single one costs more than a short trace can even out.
    """
    mix = MIXES[cell.mix]
    rate = cell.load * mix.capacity()
    played = list(requests(cell.shape, rate, count / rate, list(mix.models), mix.shares, cell.slo, seed))
    report = simulate(Scenario(mix.models, seed=seed, planner=planner, noise=Noise(stalls=stalls)), played)
    if len(mix.models) == 1:
        return Found(report, _best(cell, seed, count))
    # an upper bound, far from what is possible where single models see too few requests for full batches
    bound = min(len(played), int((count / rate + cell.slo) * mix.capacity()) + 1)
    return Found(report, bound)


@cache
def _best(cell: Cell, seed: int, count: int) -> int:
    mix = MIXES[cell.mix]
    rate = cell.load * mix.capacity()
    ((_, model),) = mix.models.items()
    played = requests(cell.shape, rate, count / rate, list(mix.models), mix.shares, cell.slo, seed)
    return optimum([request.at for request in played], cell.slo, model.curve.table(model.max_batch))
