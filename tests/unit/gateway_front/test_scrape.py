"""The supervisor's /metrics shows what the app counts."""

import asyncio
import tempfile
from pathlib import Path

import prometheus_client
import pytest

from infermesh.gateway.scrape import AppMetrics, offered


@pytest.fixture
def path():
    with tempfile.TemporaryDirectory(prefix="im-") as folder:  # a socket's path must be short: not pytest's own
        yield Path(folder) / "s"


def app_registry():
    registry = prometheus_client.CollectorRegistry()
    seconds = prometheus_client.Histogram("infermesh_x_seconds", "x", ["model"], buckets=(0.1, 1), registry=registry)
    seconds.labels("digits").observe(0.5)
    prometheus_client.Counter("infermesh_calls", "calls", ["code"], registry=registry).labels("OK").inc(3)
    prometheus_client.Gauge("infermesh_both", "also the supervisor's", registry=registry).set(1)
    prometheus_client.ProcessCollector(registry=registry)
    return registry


async def test_families_of_the_app_are_shown_as_they_are(path):
    ours = prometheus_client.CollectorRegistry()
    prometheus_client.Gauge("infermesh_both", "ours", registry=ours).set(2)
    prometheus_client.ProcessCollector(registry=ours)
    taken = [family.name for family in ours.collect()]
    async with offered(path, app_registry()):
        ours.register(AppMetrics(path, taken))
        text = await asyncio.to_thread(lambda: prometheus_client.generate_latest(ours).decode())
    assert 'infermesh_x_seconds_bucket{le="1.0",model="digits"} 1.0' in text
    assert "# TYPE infermesh_x_seconds histogram" in text
    assert 'infermesh_calls_total{code="OK"} 3.0' in text
    assert "infermesh_both 2.0" in text
    for family in ("infermesh_both", "process_open_fds", "infermesh_x_seconds"):
        assert text.count(f"# TYPE {family} ") == 1


def test_an_app_that_does_not_answer_leaves_the_supervisors_own(path):
    registry = prometheus_client.CollectorRegistry()
    prometheus_client.Gauge("own", "ours", registry=registry).set(1)
    registry.register(AppMetrics(path, []))
    assert "own 1.0" in prometheus_client.generate_latest(registry).decode()
