"""The worker's Prometheus metrics, with the children of each target bound beforehand. Built by `main`."""

from prometheus_client import CollectorRegistry

from infermesh.mesh import metrics
from infermesh.mesh.status import code_of


class TargetMeasures:
    """The metrics of one version of one deployment."""

    def __init__(self, table: metrics.WorkerMetrics, model: str, version: str) -> None:
        self.queue = table.queue_seconds.labels(model, version)
        self.compute = table.compute_seconds.labels(model, version)
        self.rows = table.batch_rows.labels(model, version)
        self.calls = table.calls.labels(model, version, "OK")
        self._table, self._labels = table, (model, version)

    def failed(self, error: BaseException) -> None:
        """Counts a call that failed."""
        self._table.calls.labels(*self._labels, code_of(error).name).inc()


class Measures:
    """All metrics of a worker."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._table = metrics.WorkerMetrics(registry)

    def of(self, model: str, version: str) -> TargetMeasures:
        """Returns the metrics of a target, bound to its labels."""
        return TargetMeasures(self._table, model, version)

    def loaded(self, model: str, version: str, seconds: float) -> None:
        """Takes in that a version was loaded."""
        self._table.load_seconds.labels(model, version).observe(seconds)

    def held(self, counts: dict[str, int]) -> None:
        """Takes in how many versions are in each state."""
        for state, count in counts.items():
            self._table.held.labels(state).set(count)

    def memory(self, device: str, total: int, free: int) -> None:
        """Takes in the memory of the device, in bytes."""
        self._table.memory_total.labels(device).set(total)
        self._table.memory_free.labels(device).set(free)
