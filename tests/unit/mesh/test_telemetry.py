"""Trace context: in, through and out, and tables of extensions."""

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from infermesh.errors import ConfigError
from infermesh.mesh import telemetry
from infermesh.mesh.config import TelemetryConfig
from infermesh.mesh.extensions import Table

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_span_under_the_caller_keeps_its_trace() -> None:
    tracer = TracerProvider().get_tracer("test")
    context = telemetry.extract(PARENT, "vendor=1")
    span = tracer.start_span("inner", context=context)
    traceparent, tracestate = telemetry.inject(span)
    assert traceparent.split("-")[1] == PARENT.split("-")[1]
    assert traceparent.split("-")[2] != PARENT.split("-")[2]
    assert tracestate == "vendor=1"


@pytest.mark.parametrize("text", ["", "nonsense", "00-00000000000000000000000000000000-b7ad6b7169203331-01"])
def test_a_malformed_context_is_none(text: str) -> None:
    assert telemetry.extract(text) is None


@pytest.mark.parametrize(("flags", "yes"), [("01", True), ("00", False), ("03", True), ("02", False)])
def test_sampled_reads_the_flag(flags: str, yes: bool) -> None:
    assert telemetry.sampled(PARENT[:-2] + flags) is yes
    assert telemetry.sampled("") is False


def test_without_an_endpoint_nothing_is_recorded() -> None:
    off = telemetry.Telemetry("worker", TelemetryConfig())
    span = off.tracer.start_span("x")
    assert not span.is_recording()
    assert telemetry.inject(trace.NonRecordingSpan(trace.INVALID_SPAN_CONTEXT)) == ("", "")
    off.stop()


def test_a_table_loads_by_name_and_names_what_it_knows() -> None:
    table: Table[type[Exception]] = Table("policy", {"a": "infermesh.errors:NotFound"}, "infermesh.none")
    assert table.load("a").__name__ == "NotFound"
    assert table.names() == ("a",)
    with pytest.raises(ConfigError, match=r"policy: expected one of a, got 'b'"):
        table.load("b")
