"""What Prometheus sees of a worker."""

from prometheus_client import CollectorRegistry, generate_latest

from infermesh.errors import DeadlineExceeded
from infermesh.worker.measures import Measures


def test_counts_are_shown_with_model_version_and_code() -> None:
    registry = CollectorRegistry()
    measures = Measures(registry)
    target = measures.of("digits", "2")
    target.executed(3, 0.002, [0.0001, 0.004, 70.0])
    target.failed(DeadlineExceeded("late"))
    target.load.add(1.5)
    measures.held({"READY": 1})
    measures.memory("cpu:0", 1000, 400)

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"infermesh_worker_{name}", labels)

    mine = {"model": "digits", "version": "2"}
    assert value("queue_seconds_count", **mine) == 3
    assert value("queue_seconds_bucket", **mine, le="0.0005") == 1
    assert value("queue_seconds_bucket", **mine, le="0.005") == 2
    assert value("queue_seconds_bucket", **mine, le="60.0") == 2
    assert value("queue_seconds_bucket", **mine, le="+Inf") == 3
    assert value("compute_seconds_sum", **mine) == 0.002
    assert value("batch_rows_bucket", **mine, le="2.0") == 0
    assert value("batch_rows_bucket", **mine, le="4.0") == 1
    assert value("load_seconds_sum", **mine) == 1.5
    assert value("calls_total", **mine, code="OK") == 3
    assert value("calls_total", **mine, code="DEADLINE_EXCEEDED") == 1
    assert value("held_versions", state="READY") == 1
    assert value("memory_total_bytes", device="cpu:0") == 1000
    assert value("memory_free_bytes", device="cpu:0") == 400


def test_a_target_that_comes_back_goes_on_counting() -> None:
    measures = Measures(CollectorRegistry())
    measures.of("d", "1").executed(1, 0.1, [0.1])
    assert measures.of("d", "1").codes["OK"] == 1


def test_an_idle_worker_has_metrics_too() -> None:
    registry = CollectorRegistry()
    Measures(registry)
    assert b"infermesh_worker_held_versions" in generate_latest(registry)
