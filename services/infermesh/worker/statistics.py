"""Counts what became of the calls of one target, in the terms of Triton's statistics extension.

Every successful call adds one to `success`, `queue` and the three compute counts, so that their counts are always
equal; calls that failed are in `fail` only. `inference_count` counts rows, `execution_count` batches.
"""

import time
from dataclasses import dataclass, field

from infermesh.oip.v2 import grpc_service_pb2 as oip


@dataclass(slots=True)
class Phase:
    """How often something happened and how long it took in all."""

    count: int = 0
    ns: int = 0

    def add(self, ns: int, count: int = 1) -> None:
        """Takes in `count` times that took `ns` together."""
        self.count += count
        self.ns += ns

    def message(self) -> oip.StatisticDuration:
        """Returns it as the protocol has it."""
        return oip.StatisticDuration(count=self.count, ns=self.ns)


@dataclass(slots=True)
class BatchPhases:
    """The phases of the executions of one batch size: input, inference, output."""

    compute: tuple[Phase, Phase, Phase] = field(default_factory=lambda: (Phase(), Phase(), Phase()))


class Statistics:
    """The counters of one target since the worker took it up."""

    def __init__(self) -> None:
        self.inference_count = 0
        self.execution_count = 0
        self.success, self.fail, self.queue = Phase(), Phase(), Phase()
        self.compute = (Phase(), Phase(), Phase())
        """Input, inference, output."""
        self.batches: dict[int, BatchPhases] = {}
        self._last_ms = 0

    def executed(self, rows: int, calls: int, total: int, queue: int, compute: tuple[int, int, int]) -> None:
        """Takes in one execution and its calls. Times are in nanoseconds; `total` and `queue` are sums over the calls,
        `compute` is what input, inference and output took."""
        self.inference_count += rows
        self.execution_count += 1
        self._last_ms = time.time_ns() // 1_000_000
        batch = self.batches.get(rows)
        if batch is None:
            batch = self.batches[rows] = BatchPhases()
        for phase, whole, ns in zip(batch.compute, self.compute, compute, strict=True):
            phase.count += 1
            phase.ns += ns
            whole.count += calls
            whole.ns += ns * calls
        success, waited = self.success, self.queue
        success.count += calls
        success.ns += total
        waited.count += calls
        waited.ns += queue

    def failed(self, ns: int) -> None:
        """Takes in a call that failed `ns` nanoseconds after its arrival."""
        self.fail.add(ns)

    def message(self, name: str, version: str) -> oip.ModelStatistics:
        """Returns the counters as the protocol has them."""
        phases = oip.InferStatistics(
            success=self.success.message(),
            fail=self.fail.message(),
            queue=self.queue.message(),
            **_by_name(self.compute),
            cache_hit=oip.StatisticDuration(),
            cache_miss=oip.StatisticDuration(),
        )
        return oip.ModelStatistics(
            name=name,
            version=version,
            last_inference=self._last_ms,
            inference_count=self.inference_count,
            execution_count=self.execution_count,
            inference_stats=phases,
            batch_stats=[_batch(rows, batch) for rows, batch in sorted(self.batches.items())],
        )


def _batch(rows: int, batch: BatchPhases) -> oip.InferBatchStatistics:
    return oip.InferBatchStatistics(batch_size=rows, **_by_name(batch.compute))


def _by_name(compute: tuple[Phase, Phase, Phase]) -> dict[str, oip.StatisticDuration]:
    return dict(zip(("compute_input", "compute_infer", "compute_output"), (p.message() for p in compute), strict=True))
