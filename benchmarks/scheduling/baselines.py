"""Other ways to plan batches, to compare with: made for the benchmark, not part of the product.

Each is a factory of `infermesh.worker.batcher.Planner`: one planner for each model on each worker.
"""

from collections.abc import Callable, Sequence

from infermesh.worker.batcher import Plan, Planner, T
from infermesh.worker.service_time import ServiceTime


def fixed_timeout(timeout: float) -> Callable[[], Planner]:
    """Waits until a batch is full or its oldest request has waited `timeout` seconds; knows no deadlines."""

    def planner(now: float, queue: Sequence[T], time: ServiceTime, limit: int, max_delay: float, /) -> Plan[T]:
        batch = _first(queue, limit)
        if not batch or sum(item.rows for item in batch) >= limit:
            return Plan(batch, [])
        due = min(item.arrived for item in batch) + timeout
        return Plan(batch, []) if now >= due else Plan([], [], due)

    return lambda: planner


def eager_edf() -> Planner:
    """Runs whatever waits, earliest deadline first; only what is past its deadline is dropped."""

    def planner(now: float, queue: Sequence[T], time: ServiceTime, limit: int, max_delay: float, /) -> Plan[T]:
        late = [item for item in queue if item.deadline <= now]
        return Plan(_first([item for item in queue if item.deadline > now], limit), late)

    return planner


class Aimd:
    """Additive increase, multiplicative decrease: batches grow by one until one takes longer than half of the time that
    its requests have from arrival to deadline, then shrink by a tenth."""

    def __init__(self) -> None:
        self._most = 1.0

    def __call__(self, now: float, queue: Sequence[T], time: ServiceTime, limit: int, max_delay: float, /) -> Plan[T]:
        """Plans a batch."""
        late = [item for item in queue if item.deadline <= now]
        batch = _first([item for item in queue if item.deadline > now], min(limit, int(self._most)))
        if batch:
            rows = sum(item.rows for item in batch)
            long = time.seconds(rows) > (batch[0].deadline - batch[0].arrived) / 2
            self._most = (
                max(1.0, self._most * 0.9) if long else min(float(limit), self._most + (rows >= int(self._most)))
            )
        return Plan(batch, late)


def _first(queue: Sequence[T], limit: int) -> list[T]:
    batch: list[T] = []
    rows = 0
    for item in queue:
        if batch and rows + item.rows > limit:
            break
        batch.append(item)
        rows += item.rows
    return batch
