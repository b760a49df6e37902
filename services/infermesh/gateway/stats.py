"""What happened to the calls of each target: counted without locks on the event loop, read by `/metrics` and by
ModelStatistics."""

import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from infermesh.mesh import metrics
from infermesh.mesh.metrics import LATENCY_BUCKETS

OK: Final = "OK"
now_seconds: Final = time.perf_counter
"""Returns the time from which durations are measured: finer than the event loop's own milliseconds."""


class Series:
    """Count, sum and histogram of the durations of calls that ended with one code."""

    __slots__ = ("buckets", "count", "seconds")

    def __init__(self) -> None:
        self.count = 0
        self.seconds = 0.0
        self.buckets = [0] * (len(LATENCY_BUCKETS) + 1)

    def add(self, seconds: float) -> None:
        """Counts one call."""
        self.count += 1
        self.seconds += seconds
        self.buckets[bisect_left(LATENCY_BUCKETS, seconds)] += 1


@dataclass(slots=True, eq=False)
class TargetStats:
    """Calls of one target (or, with empty names, of calls that could not be routed) since the gateway started.

    `queue_us` and `compute_us` are the sums of what workers told of successful calls.
    """

    model: str
    version: str
    ok: Series = field(default_factory=Series)
    failed: dict[str, Series] = field(default_factory=dict)
    queue_us: int = 0
    compute_us: int = 0
    retries: int = 0
    hedges: int = 0
    shared: int = 0
    refused: int = 0
    """Calls that this gateway refused because runners died of what they ask: no worker has counted them."""

    def succeed(self, seconds: float, queue_us: int, compute_us: int) -> None:
        """Counts one call that was answered."""
        self.ok.add(seconds)
        self.queue_us += queue_us
        self.compute_us += compute_us

    def fail(self, code: str, seconds: float) -> None:
        """Counts one failed call; `code` is the name of its gRPC status code."""
        series = self.failed.get(code)
        if series is None:
            series = self.failed[code] = Series()
        series.add(seconds)

    def series(self) -> Iterator[tuple[str, Series]]:
        """Yields every code that there was, with its calls."""
        if self.ok.count:
            yield OK, self.ok
        yield from list(self.failed.items())


class Load(Protocol):
    """What is going on for one target at this moment."""

    stats: TargetStats

    def waiting(self) -> int:
        """Returns the calls that wait here."""
        ...

    def in_flight(self) -> int:
        """Returns the calls that workers have."""
        ...

    def quarantined(self) -> int:
        """Returns the requests that are refused because runners died on them."""
        ...


class GatewayMetrics(Collector):
    """Builds the metrics when they are asked for, so that counting a call costs an addition and not a lock."""

    def __init__(
        self,
        registry: CollectorRegistry,
        stats: Callable[[], Iterable[TargetStats]],
        loads: Callable[[], Iterable[Load]],
    ) -> None:
        self._stats = stats
        self._loads = loads
        registry.register(self)

    def describe(self) -> list[Metric]:
        """Returns nothing: the names are not checked against calls when registered."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yields the metrics as of now. May be called from another thread."""
        yield from self._calls()
        yield from self._levels()

    def _calls(self) -> Iterator[Metric]:
        total, seconds, retries = metrics.inference_requests(), metrics.inference_seconds(), metrics.inference_retries()
        hedges, shared = metrics.inference_hedges(), metrics.inference_shared()
        for stats in list(self._stats()):
            names = [stats.model, stats.version]
            retries.add_metric(names, stats.retries)
            hedges.add_metric(names, stats.hedges)
            shared.add_metric(names, stats.shared)
            for code, series in stats.series():
                total.add_metric([*names, code], series.count)
                seconds.add_metric([*names, code], _cumulative(series.buckets), series.seconds)
        yield from (total, seconds, retries, hedges, shared)

    def _levels(self) -> Iterator[Metric]:
        waiting, in_flight = metrics.inference_waiting(), metrics.inference_in_flight()
        quarantined = metrics.inference_quarantined()
        for load in list(self._loads()):
            names = [load.stats.model, load.stats.version]
            waiting.add_metric(names, load.waiting())
            in_flight.add_metric(names, load.in_flight())
            quarantined.add_metric(names, load.quarantined())
        yield from (waiting, in_flight, quarantined)


def _cumulative(buckets: list[int]) -> list[tuple[str, float]]:
    total, pairs = 0, []
    for bound, count in zip([*map(str, LATENCY_BUCKETS), "+Inf"], buckets, strict=True):
        total += count
        pairs.append((bound, float(total)))
    return pairs
