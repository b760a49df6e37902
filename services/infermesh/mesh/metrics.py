"""Names of every metric of the mesh, in one file. Times are histograms in seconds; a room pre-binds the children that
its hot path needs."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

LATENCY_BUCKETS: Final = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
"""Upper bounds in seconds of every latency histogram."""
ROW_BUCKETS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
"""Upper bounds of histograms of batch sizes."""


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


class WorkerMetrics:
    """What a worker counts; `model` is the deployment that clients name."""

    def __init__(self, registry: CollectorRegistry) -> None:
        target = ["model", "version"]
        self.queue_seconds = _seconds("worker_queue", "Time of a call in the worker's queue.", target, registry)
        self.compute_seconds = _seconds("worker_compute", "Time of the execution of a batch.", target, registry)
        self.load_seconds = _seconds(
            "worker_load", "Time to fetch, load, check and warm up a version.", target, registry
        )
        self.batch_rows = Histogram(
            "infermesh_worker_batch_rows", "Rows of a batch.", target, buckets=ROW_BUCKETS, registry=registry
        )
        self.calls = Counter("infermesh_worker_calls", "Calls by result.", [*target, "code"], registry=registry)
        self.held = Gauge("infermesh_worker_held_versions", "Versions held, by state.", ["state"], registry=registry)
        self.memory_total = Gauge(
            "infermesh_worker_memory_total_bytes", "Memory that models may use.", ["device"], registry=registry
        )
        self.memory_free = Gauge(
            "infermesh_worker_memory_free_bytes", "Memory that is free.", ["device"], registry=registry
        )


def _seconds(name: str, text: str, labels: list[str], registry: CollectorRegistry) -> Histogram:
    return Histogram(f"infermesh_{name}_seconds", text, labels, buckets=LATENCY_BUCKETS, registry=registry)


class SchedulerMetrics:
    """What the scheduler counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.plan_seconds = Histogram(
            "infermesh_scheduler_plan_seconds",
            "Time to make the plan and all that follows from it.",
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self.plan_errors = Counter("infermesh_scheduler_plan_errors", "Plans that failed.", registry=registry)
        self.workers = Gauge("infermesh_scheduler_workers", "Workers alive, by state.", ["state"], registry=registry)
        self.workers_lost = Counter("infermesh_scheduler_workers_lost", "Workers that fell silent.", registry=registry)
        self.assignments = Gauge("infermesh_scheduler_assignments", "Versions given to workers.", registry=registry)
        self.unplaced = Gauge(
            "infermesh_scheduler_unplaced_replicas", "Replicas that no worker can take.", registry=registry
        )
        self.registry_connected = Gauge(
            "infermesh_scheduler_registry_connected", "1 while the registry is heard.", registry=registry
        )


def artifact_bytes(registry: CollectorRegistry) -> Counter:
    """Returns the counter of bytes of artifacts by direction: `in` or `out` of the registry."""
    return Counter("infermesh_artifact_bytes", "Bytes of artifacts moved.", ["direction"], registry=registry)


def uploads_total(registry: CollectorRegistry) -> Counter:
    """Returns the counter of upload streams by their end: `complete`, `partial`, `mismatch` or `failed`."""
    return Counter("infermesh_uploads", "Upload streams that ended.", ["result"], registry=registry)


def desired_watchers(registry: CollectorRegistry) -> Gauge:
    """Returns the gauge of schedulers that watch what is wanted."""
    return Gauge("infermesh_desired_watchers", "Open streams of what is wanted.", registry=registry)
