"""What a simulation comes to, in numbers."""

from collections.abc import Sequence
from dataclasses import dataclass

from infermesh.simulation.record import Outcome, Record

_PERCENTILES = (50.0, 90.0, 99.0, 99.9)


@dataclass(frozen=True)
class Report:
    """The sums of a run. Times are in seconds."""

    seconds: float
    """From the first moment until the last request had ended."""
    requests: int
    good: int
    """Answered in time."""
    late: int
    """Answered, but late."""
    refused: int
    """Told in time that there will be no answer."""
    expired: int
    """Neither answered nor refused in time."""
    failed: int
    wrong: int
    """Answers that were another request's: always 0."""
    wasted: float
    """Time of workers on requests that were too late when their batch began."""
    hopeless: int
    """Requests that were too late when their batch began."""
    overrun: int
    """Requests whose batch ended after their deadline."""
    executed: int
    """Rows that were executed."""
    batches: int
    utilisation: tuple[float, ...]
    """Share of the time that each worker was busy."""
    latency: dict[str, float]
    """Percentiles of the answered requests."""
    refusal_lag: float
    """Longest time that a request waited for its refusal after nothing could have saved it."""
    refusal_age: dict[str, float]
    """Percentiles of the time from arrival until refusal."""
    digest: str
    """Equal for equal runs, event by event."""

    @property
    def goodput(self) -> float:
        """Requests answered in time, a second."""
        return self.good / self.seconds if self.seconds else 0.0

    @property
    def kept(self) -> float:
        """Share of the admitted requests (all but those refused in time) that were answered in time."""
        admitted = self.requests - self.refused
        return self.good / admitted if admitted else 1.0


def report(record: Record, seconds: float) -> Report:
    """Returns the sums of a record."""
    counts = {outcome.name: record.counts[outcome] for outcome in Outcome}
    return Report(
        seconds=seconds,
        requests=len(record),
        **counts,
        wrong=record.wrong,
        wasted=sum(worker.wasted for worker in record.workers),
        hopeless=sum(worker.hopeless for worker in record.workers),
        overrun=sum(worker.overrun for worker in record.workers),
        executed=sum(worker.rows for worker in record.workers),
        batches=sum(worker.batches for worker in record.workers),
        utilisation=tuple(worker.busy / seconds if seconds else 0.0 for worker in record.workers),
        latency=percentiles(record.latencies),
        refusal_lag=max(record.refusal_lags, default=0.0),
        refusal_age=percentiles(record.refusal_ages),
        digest=record.digest(),
    )


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Returns percentiles by name, `p50` and so on; empty without values."""
    if not values:
        return {}
    ranked = sorted(values)
    return {f"p{share:g}": ranked[min(len(ranked) - 1, int(len(ranked) * share / 100))] for share in _PERCENTILES}
