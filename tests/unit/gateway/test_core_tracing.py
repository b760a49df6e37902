"""Trace context goes through the gateway, and sampled calls get a span there."""

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NoOpTracer, StatusCode, Tracer

from infermesh.v1.worker_service_pb2 import WorkItem
from tests.unit.gateway.simulation import SimMesh, SimWorker, deployed, outcomes
from tests.unit.gateway.virtual import run

TARGET = "digits/1"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SAMPLED, UNSAMPLED = f"00-{TRACE}-00f067aa0ba902b7-01", f"00-{TRACE}-00f067aa0ba902b7-00"


def spans_and_item(
    traceparent: str, *, tracer: Tracer | None = None, model: str = "digits"
) -> tuple[tuple[ReadableSpan, ...], list[WorkItem]]:
    """Makes one call; returns the spans of the gateway and what the worker got."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))

    async def scenario() -> list[WorkItem]:
        worker = SimWorker("a", {TARGET: 1})
        async with SimMesh(worker, tracer=tracer or provider.get_tracer("test")) as mesh:
            await mesh.route(deployed({"1": [worker]}))
            call = mesh.infer(traceparent=traceparent, tracestate="vendor=1", deployment=model)
            await outcomes([call])
        return worker.received

    received = run(scenario())
    provider.shutdown()
    return exporter.get_finished_spans(), received


def test_a_sampled_call_has_a_span_whose_child_the_workers_will_be() -> None:
    [span], [item] = spans_and_item(SAMPLED)

    assert span.name == "gateway.dispatch"
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == "00f067aa0ba902b7"
    assert item.traceparent == f"00-{TRACE}-{span.context.span_id:016x}-01"
    assert item.tracestate == "vendor=1"
    assert span.attributes is not None
    assert span.attributes["infermesh.target"] == TARGET
    assert span.attributes["infermesh.attempts"] == 1


def test_a_failed_call_says_so_in_its_span() -> None:
    [span], _ = spans_and_item(SAMPLED, model="unknown")

    assert span.status.status_code == StatusCode.ERROR
    assert span.attributes is not None
    assert span.attributes["rpc.response.status_code"] == "NOT_FOUND"


def test_an_unsampled_call_is_passed_on_as_it_came() -> None:
    spans, [item] = spans_and_item(UNSAMPLED)

    assert spans == ()
    assert (item.traceparent, item.tracestate) == (UNSAMPLED, "vendor=1")


def test_without_an_exporter_nothing_is_traced_and_everything_passed_on() -> None:
    spans, [item] = spans_and_item(SAMPLED, tracer=NoOpTracer())

    assert spans == ()
    assert item.traceparent == SAMPLED


def test_a_malformed_context_is_the_callers_business() -> None:
    spans, [item] = spans_and_item("not a context 1")

    assert spans == ()
    assert item.traceparent == "not a context 1"
