"""What a load test found: for people, as JSON, as CSV. Pure."""

import csv
import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from infermesh.loadgen.arrivals import Arrivals
from infermesh.loadgen.plan import Plan
from infermesh.loadgen.recording import OK, Interval, Recording, percentiles

SHARES: Final = (50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 99.99, 100.0)
_COLUMNS: Final = ("second", "due", "ok", "failed", "good", "p50_ms", "p90_ms", "p99_ms", "p99.9_ms", "max_ms")


@dataclass(frozen=True)
class Report:
    """The figures of a run. Rates are per second, latencies in milliseconds, from the moment a call was due.

    `offered` is what was asked of the server, `answered` what it gave, `goodput` what it gave within `slo_ms`; the
    latencies are those of answered calls, by percentage. `failed` counts calls by code and reason. `delay_ms` says how
    late calls were sent, by percentage: beyond a millisecond the load's own side was too slow, or `in_flight` too low;
    `client_cores` is the CPU that it used.
    """

    arrivals: str
    calls: int
    seconds: float
    offered: float
    answered: float
    goodput: float
    slo_ms: float
    latency_ms: Mapping[str, float]
    mean_ms: float
    failed: Mapping[str, int]
    delay_ms: Mapping[str, float]
    client_cores: float
    in_flight: int
    connections: int
    seed: int

    @property
    def good_share(self) -> float:
        """The share of all calls that was answered within the SLO; 0 without any call."""
        return self.goodput * self.seconds / self.calls if self.calls else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Returns the figures for a JSON file."""
        return {**asdict(self), "good_share": self.good_share}


def report(plan: Plan, recording: Recording) -> Report:
    """Returns the figures of a run. Rates count over its planned duration, or over the time until the last answer."""
    ends = recording.ends()
    latencies = recording.latencies()
    calls, answered = ends.total(), ends[OK]
    seconds = max(plan.duration, recording.elapsed) if answered else plan.duration
    return Report(
        arrivals=plan.arrivals.value,
        calls=calls,
        seconds=seconds,
        offered=calls / (seconds if plan.arrivals is Arrivals.closed else plan.duration),
        answered=answered / seconds,
        goodput=recording.good() / seconds,
        slo_ms=plan.slo * 1e3,
        latency_ms=_named(latencies),
        mean_ms=latencies.get_mean_value() / 1e3 if answered else 0.0,
        failed=dict(sorted((end, count) for end, count in ends.items() if end != OK)),
        delay_ms=_named(recording.delays),
        client_cores=recording.cpu / seconds,
        in_flight=plan.in_flight,
        connections=plan.connections,
        seed=plan.seed,
    )


def _named(latencies: Any) -> dict[str, float]:
    values = percentiles(latencies, SHARES)
    names = [f"p{share:g}" for share in SHARES[:-1]] + ["max"]
    return {name: value * 1e3 for name, value in zip(names, values, strict=True)}


def to_csv(recording: Recording) -> str:
    """Returns a table with a line for each interval: `second` is its start, `due` the calls that were due in it."""
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(_COLUMNS)
    for number, item in sorted(recording.intervals.items()):
        table.writerow([f"{number * recording.seconds:g}", *_row(item)])
    return out.getvalue()


def _row(item: Interval) -> list[str]:
    due, ok = item.ends.total(), item.ends[OK]
    latencies = [f"{value * 1e3:.3f}" for value in percentiles(item.latencies, (50, 90, 99, 99.9, 100))]
    return [*(str(count) for count in (due, ok, due - ok, item.good)), *latencies]
