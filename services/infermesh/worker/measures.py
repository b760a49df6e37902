"""What the worker counts, and how Prometheus sees it. Built by `main`.

The hot path adds to plain numbers: one event loop counts, and the thread that answers /metrics reads what is there.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from infermesh.mesh import metrics
from infermesh.mesh.status import code_of

Labels = tuple[str, str]


class Distribution:
    """A histogram without locks."""

    __slots__ = ("_bounds", "_counts", "_total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds, self._counts, self._total = bounds, [0] * (len(bounds) + 1), 0.0

    def add(self, value: float) -> None:
        """Counts a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._total += value

    def fill(self, family: HistogramMetricFamily, labels: Labels) -> None:
        """Adds what was counted to a family."""
        names = [*(str(float(bound)) for bound in self._bounds), "+Inf"]
        family.add_metric(labels, list(zip(names, accumulate(self._counts), strict=True)), self._total)


class TargetMeasures:
    """The counts of one version of one deployment, since the process began."""

    __slots__ = ("codes", "compute", "load", "quarantined", "queue", "rows", "runner_deaths")

    def __init__(self) -> None:
        self.queue = Distribution(metrics.LATENCY_BUCKETS)
        self.compute = Distribution(metrics.LATENCY_BUCKETS)
        self.load = Distribution(metrics.LATENCY_BUCKETS)
        self.rows = Distribution(metrics.ROW_BUCKETS)
        self.codes: Counter[str] = Counter()
        self.runner_deaths = 0
        self.quarantined = 0

    def executed(self, rows: int, compute: float, queued: Sequence[float]) -> None:
        """Counts a batch: its rows, the seconds of its execution, and those that each call of it had waited."""
        self.rows.add(rows)
        self.compute.add(compute)
        self.codes["OK"] += len(queued)
        for seconds in queued:
            self.queue.add(seconds)

    def failed(self, error: BaseException) -> None:
        """Counts a call that failed."""
        self.codes[code_of(error).name] += 1


class Measures(Collector):
    """All counts of a worker; registers itself."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._targets: dict[Labels, TargetMeasures] = {}
        self._held: dict[str, int] = {}
        self._memory: tuple[str, int, int] | None = None
        registry.register(self)

    def of(self, model: str, version: str) -> TargetMeasures:
        """Returns the counts of a target; the same ones when it comes back after an unload."""
        return self._targets.setdefault((model, version), TargetMeasures())

    def held(self, counts: dict[str, int]) -> None:
        """Takes in how many versions are in each state."""
        self._held = counts

    def memory(self, device: str, total: int, free: int) -> None:
        """Takes in the memory of the device, in bytes."""
        self._memory = (device, total, free)

    def collect(self) -> Iterable[Metric]:
        """Returns everything as Prometheus wants it. Called in another thread."""
        targets = list(self._targets.items())
        for family, name in (
            (metrics.worker_queue_seconds(), "queue"),
            (metrics.worker_compute_seconds(), "compute"),
            (metrics.worker_load_seconds(), "load"),
            (metrics.worker_batch_rows(), "rows"),
        ):
            for labels, target in targets:
                getattr(target, name).fill(family, labels)
            yield family
        calls = metrics.worker_calls()
        for labels, target in targets:
            for code, count in list(target.codes.items()):
                calls.add_metric([*labels, code], count)
        yield calls
        deaths, quarantined = metrics.worker_runner_deaths(), metrics.worker_quarantined()
        for labels, target in targets:
            deaths.add_metric(labels, target.runner_deaths)
            quarantined.add_metric(labels, target.quarantined)
        yield from (deaths, quarantined)
        yield from self._gauges()

    def _gauges(self) -> Iterable[Metric]:
        held = metrics.worker_held_versions()
        for state, count in self._held.items():
            held.add_metric([state], count)
        yield held
        total, free = metrics.worker_memory_total(), metrics.worker_memory_free()
        if self._memory is not None:
            device, total_bytes, free_bytes = self._memory
            total.add_metric([device], total_bytes)
            free.add_metric([device], free_bytes)
        yield total
        yield free
