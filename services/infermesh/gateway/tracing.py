"""Traces of calls: one span for each call whose caller samples it. Used by the dispatcher."""

from opentelemetry.trace import Status, StatusCode, Tracer

from infermesh.gateway.pending import Pending
from infermesh.gateway.stats import OK
from infermesh.mesh.telemetry import extract, inject, records, sampled


class Tracing:
    """Begins and ends spans. A call that isn't sampled is passed on with the strings that it came with."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self.enabled = records(tracer)
        """Whether spans go anywhere; else no call need be shown to this."""

    def begin(self, pending: Pending) -> None:
        """Begins the span of a call that has a trace context, if it is sampled; the worker's span will be its child."""
        call = pending.call
        if not sampled(call.traceparent):
            return
        context = extract(call.traceparent, call.tracestate)
        if context is None:
            return
        attributes = {"infermesh.deployment": call.deployment, "infermesh.version": call.version}
        pending.span = self._tracer.start_span("gateway.dispatch", context=context, attributes=attributes)
        pending.trace = inject(pending.span)

    @staticmethod
    def end(pending: Pending, code: str) -> None:
        """Ends the span of a call that has one."""
        span, pending.span = pending.span, None
        if span is None:
            return
        if pending.target is not None:
            span.set_attribute("infermesh.target", pending.target.route.name)
        span.set_attribute("infermesh.attempts", pending.attempts)
        span.set_attribute("rpc.response.status_code", code)
        if code != OK:
            span.set_status(Status(StatusCode.ERROR, code))
        span.end()
