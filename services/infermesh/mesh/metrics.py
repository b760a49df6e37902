"""Names of every metric of the mesh, in one file. Times are histograms in seconds; a room pre-binds the children that
its hot path needs."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

LATENCY_BUCKETS: Final = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
"""Upper bounds in seconds of every latency histogram."""
ROW_BUCKETS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
"""Upper bounds of histograms of batch sizes."""

TARGET_LABELS: Final = ("model", "version")
CALL_LABELS: Final = (*TARGET_LABELS, "code")


def rpc_seconds(registry: CollectorRegistry) -> Histogram:
    """Returns the histogram of control-plane calls by method and code."""
    return Histogram(
        "infermesh_rpc_seconds",
        "Time of a control-plane call.",
        ["method", "code"],
        buckets=LATENCY_BUCKETS,
        registry=registry,
    )


def worker_queue_seconds() -> HistogramMetricFamily:
    """Returns the family of the times of calls in a worker's queue; its buckets are LATENCY_BUCKETS.

    This and the other families of the worker are filled when they are asked for: the worker counts without locks.
    """
    return HistogramMetricFamily("infermesh_worker_queue_seconds", "Time in the worker's queue.", labels=TARGET_LABELS)


def worker_compute_seconds() -> HistogramMetricFamily:
    """Returns the family of the times of executions of batches; its buckets are LATENCY_BUCKETS."""
    return HistogramMetricFamily("infermesh_worker_compute_seconds", "Time of an execution.", labels=TARGET_LABELS)


def worker_batch_rows() -> HistogramMetricFamily:
    """Returns the family of the rows of batches; its buckets are ROW_BUCKETS."""
    return HistogramMetricFamily("infermesh_worker_batch_rows", "Rows of a batch.", labels=TARGET_LABELS)


def worker_load_seconds() -> HistogramMetricFamily:
    """Returns the family of the times that fetching, loading, checking and warming up took."""
    return HistogramMetricFamily("infermesh_worker_load_seconds", "Time to load a version.", labels=TARGET_LABELS)


def worker_calls() -> CounterMetricFamily:
    """Returns the family of calls that a worker has ended, by code."""
    return CounterMetricFamily("infermesh_worker_calls", "Calls that have ended.", labels=CALL_LABELS)


def worker_runner_deaths() -> CounterMetricFamily:
    """Returns the family of runners that ended though nobody had ended them."""
    return CounterMetricFamily("infermesh_worker_runner_deaths", "Runners that died.", labels=TARGET_LABELS)


def worker_quarantined() -> GaugeMetricFamily:
    """Returns the family of requests that a worker refuses because its runner died on them."""
    return GaugeMetricFamily("infermesh_worker_quarantined", "Requests that are refused.", labels=TARGET_LABELS)


def worker_held_versions() -> GaugeMetricFamily:
    """Returns the family of versions that a worker holds, by state."""
    return GaugeMetricFamily("infermesh_worker_held_versions", "Versions held.", labels=["state"])


def worker_memory_total() -> GaugeMetricFamily:
    """Returns the family of the memory that models may use on a worker's device."""
    return GaugeMetricFamily("infermesh_worker_memory_total_bytes", "Memory for models.", labels=["device"])


def worker_memory_free() -> GaugeMetricFamily:
    """Returns the family of the memory that is free on a worker's device."""
    return GaugeMetricFamily("infermesh_worker_memory_free_bytes", "Memory that is free.", labels=["device"])


class PoolMetrics:
    """What the scheduler sees of each pool of workers, and wants of it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"infermesh_pool_{name}", text, ["pool"], registry=registry)

        self.workers = gauge("workers", "Workers of a pool that are alive and stay.")
        self.desired = gauge("desired_workers", "Workers that a pool should have, where the scheduler knows.")
        self.waiting_rows = gauge("waiting_rows", "Rows that wait in gateways for a pool.")
        self.busy = gauge("busy_workers", "Workers of a pool that the calls under way would fill.")
        self.wait_seconds = gauge("wait_seconds", "Time that a call would wait for a worker of a pool.")
        self.active = gauge("active", "1 while a pool must not be without workers.")
        self.errors = Counter(
            "infermesh_pool_scaling_errors", "Failed tries to scale a pool.", ["pool"], registry=registry
        )

    def clear(self) -> None:
        """Forgets the levels: somebody else knows them now."""
        for gauge in (self.workers, self.desired, self.waiting_rows, self.busy, self.wait_seconds, self.active):
            gauge.clear()


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
        self.pools = PoolMetrics(registry)
        self.leader = Gauge("infermesh_scheduler_leader", "1 while this scheduler leads.", registry=registry)
        self.leader_transitions = Counter(
            "infermesh_scheduler_leader_transitions", "Times this scheduler came to lead.", registry=registry
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


def inference_requests() -> CounterMetricFamily:
    """Returns the family of calls that a gateway has ended, by model (the deployment's id), version and code.

    This and the families below are filled when they are asked for: the gateway counts without locks.
    """
    return CounterMetricFamily("infermesh_inference_requests", "Calls that have ended.", labels=CALL_LABELS)


def inference_seconds() -> HistogramMetricFamily:
    """Returns the family of the times of calls in a gateway; its buckets are LATENCY_BUCKETS."""
    return HistogramMetricFamily("infermesh_inference_seconds", "Time of a call in the gateway.", labels=CALL_LABELS)


def inference_retries() -> CounterMetricFamily:
    """Returns the family of calls that a gateway sent again."""
    return CounterMetricFamily("infermesh_inference_retries", "Calls that were sent again.", labels=TARGET_LABELS)


def inference_hedges() -> CounterMetricFamily:
    """Returns the family of second copies of slow calls that a gateway sent."""
    return CounterMetricFamily("infermesh_inference_hedges", "Calls that were sent twice.", labels=TARGET_LABELS)


def inference_shared() -> CounterMetricFamily:
    """Returns the family of calls that were answered with what an equal one got, and not executed."""
    return CounterMetricFamily("infermesh_inference_shared", "Calls that shared an answer.", labels=TARGET_LABELS)


def inference_waiting() -> GaugeMetricFamily:
    """Returns the family of calls that wait in a gateway."""
    return GaugeMetricFamily("infermesh_inference_waiting", "Calls that wait for a worker.", labels=TARGET_LABELS)


def inference_quarantined() -> GaugeMetricFamily:
    """Returns the family of requests that a gateway refuses because runners died on them."""
    return GaugeMetricFamily("infermesh_inference_quarantined", "Requests that are refused.", labels=TARGET_LABELS)


def inference_in_flight() -> GaugeMetricFamily:
    """Returns the family of calls of a gateway that workers have."""
    return GaugeMetricFamily("infermesh_inference_in_flight", "Calls that workers have.", labels=TARGET_LABELS)
