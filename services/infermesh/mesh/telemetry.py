"""Traces: OpenTelemetry spans, W3C context in and out, exported by OTLP when an endpoint is set."""

from collections.abc import Mapping

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from infermesh.mesh.config import TelemetryConfig

_W3C = TraceContextTextMapPropagator()


class Telemetry:
    """The tracer of one process. Without an endpoint its spans are never recorded and cost next to nothing."""

    def __init__(self, room: str, config: TelemetryConfig) -> None:
        self.enabled = bool(config.endpoint)
        self._provider: TracerProvider | None = None
        self.tracer: trace.Tracer = trace.NoOpTracer()
        if self.enabled:
            self._start(room, config)

    def _start(self, room: str, config: TelemetryConfig) -> None:
        # imported here: a process that exports nothing should not pay for the exporter
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        resource = Resource.create({"service.name": f"infermesh-{room}", "service.namespace": "infermesh"})
        self._provider = TracerProvider(resource=resource, sampler=ParentBasedTraceIdRatio(config.sample_ratio))
        exporter = OTLPSpanExporter(endpoint=config.endpoint, insecure=True, timeout=5)
        self._provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=500))
        self.tracer = self._provider.get_tracer("infermesh")

    def stop(self) -> None:
        """Exports what is left. Blocks for at most a few seconds."""
        if self._provider is not None:
            self._provider.shutdown()


def extract(traceparent: str, tracestate: str = "") -> Context | None:
    """Returns the caller's context, or None if `traceparent` is empty or malformed."""
    if not traceparent:
        return None
    carrier = {"traceparent": traceparent, "tracestate": tracestate}
    context = _W3C.extract(carrier)
    return context if trace.get_current_span(context).get_span_context().is_valid else None


def inject(span: trace.Span) -> tuple[str, str]:
    """Returns traceparent and tracestate that make the receiver's spans children of `span`; empty without a context."""
    carrier: dict[str, str] = {}
    _W3C.inject(carrier, trace.set_span_in_context(span))
    return carrier.get("traceparent", ""), carrier.get("tracestate", "")


def records(tracer: trace.Tracer) -> bool:
    """Tells whether a tracer's spans go anywhere; where they don't, no call's context need be looked at."""
    return not isinstance(tracer, trace.NoOpTracer)


def sampled(traceparent: str) -> bool:
    """Tells by its last byte whether the caller samples this trace; cheap enough for every call."""
    return traceparent[-2:-1] != "" and traceparent[-1] in "13579bdf"


def carrier_of(metadata: Mapping[str, str]) -> tuple[str, str]:
    """Returns traceparent and tracestate of a call's metadata."""
    return metadata.get("traceparent", ""), metadata.get("tracestate", "")
