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
    """The phases of the executions of one batch size."""

    compute_input: Phase = field(default_factory=Phase)
    compute_infer: Phase = field(default_factory=Phase)
    compute_output: Phase = field(default_factory=Phase)


class Statistics:
    """The counters of one target since the worker took it up."""

    def __init__(self) -> None:
        self.inference_count = 0
        self.execution_count = 0
        self.success, self.fail, self.queue = Phase(), Phase(), Phase()
        self.compute_input, self.compute_infer, self.compute_output = Phase(), Phase(), Phase()
        self.batches: dict[int, BatchPhases] = {}
        self._last_ms = 0

    def executed(self, rows: int, compute_input: int, compute_infer: int, compute_output: int) -> None:
        """Takes in one execution; times are in nanoseconds."""
        self.inference_count += rows
        self.execution_count += 1
        self._last_ms = time.time_ns() // 1_000_000
        batch = self.batches.get(rows)
        if batch is None:
            batch = self.batches[rows] = BatchPhases()
        batch.compute_input.add(compute_input)
        batch.compute_infer.add(compute_infer)
        batch.compute_output.add(compute_output)

    def succeeded(self, calls: int, total: int, queue: int, compute: tuple[int, int, int]) -> None:
        """Takes in the calls of one execution; `total` and `queue` are sums over the calls, `compute` is per call."""
        self.success.add(total, calls)
        self.queue.add(queue, calls)
        for phase, ns in zip((self.compute_input, self.compute_infer, self.compute_output), compute, strict=True):
            phase.add(ns * calls, calls)

    def failed(self, ns: int) -> None:
        """Takes in a call that failed `ns` nanoseconds after its arrival."""
        self.fail.add(ns)

    def message(self, name: str, version: str) -> oip.ModelStatistics:
        """Returns the counters as the protocol has them."""
        phases = oip.InferStatistics(
            success=self.success.message(),
            fail=self.fail.message(),
            queue=self.queue.message(),
            compute_input=self.compute_input.message(),
            compute_infer=self.compute_infer.message(),
            compute_output=self.compute_output.message(),
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
    return oip.InferBatchStatistics(
        batch_size=rows,
        compute_input=batch.compute_input.message(),
        compute_infer=batch.compute_infer.message(),
        compute_output=batch.compute_output.message(),
    )
