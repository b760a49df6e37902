"""Names of every metric of the mesh, in one file. Times are histograms in seconds; a room pre-binds the children that
its hot path needs."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram

LATENCY_BUCKETS: Final = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
"""Upper bounds in seconds of every latency histogram."""


def rpc_seconds(registry: CollectorRegistry) -> Histogram:
    """Returns the histogram of control-plane calls by method and code."""
    return Histogram(
        "infermesh_rpc_seconds",
        "Time of a control-plane call.",
        ["method", "code"],
        buckets=LATENCY_BUCKETS,
        registry=registry,
    )


def errors_total(registry: CollectorRegistry) -> Counter:
    """Returns the counter of unexpected errors (faults of ours)."""
    return Counter(
        "infermesh_unexpected_errors", "Unexpected errors, each logged with its request id.", registry=registry
    )
