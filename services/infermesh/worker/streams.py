"""One gateway's stream: takes bundles of work apart, gathers results and loads into bundles. Used by `servicer`.

Whatever has accumulated goes out in the next bundle, without a timer: results that complete in one turn of the event
loop travel together, and while a bundle is being written the next one grows.
"""

import asyncio
from collections.abc import Callable
from math import inf

from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer

from infermesh.errors import InvalidInput, NotReady, Overloaded, Unsupported
from infermesh.mesh import parcel, status, telemetry
from infermesh.mesh.clock import Clock
from infermesh.mesh.parcel import NONE, Large, Parcel, Pieces, whole
from infermesh.mesh.wire import Bytes
from infermesh.mesh.writer import Writer
from infermesh.v1 import worker_service_pb2 as pb
from infermesh.worker.calls import Call
from infermesh.worker.models import ONLY_STREAMED, HeldModel
from infermesh.worker.serving import Serving

_UNSENT = 64 << 20  # bytes

_WAY = 0.005  # seconds of the caller's time kept for the way back to him; less where he has less: he will be near


class GatewayStream:
    """The worker's end of a stream. Open it once; once ended, it is over when all that was under way is answered."""

    def __init__(self, serving: Serving, clock: Clock, tracer: Tracer, streams: Callable[[], int]) -> None:
        """`streams` tells how many streams share the credit."""
        self._serving, self._clock, self._tracer, self._streams = serving, clock, tracer, streams
        self._traces = telemetry.records(tracer)
        self._calls: dict[int, tuple[HeldModel, Call]] = {}
        self._bundle = pb.ResultBundle()  # the next one; results are put in as they come, so that none is copied
        self._large: dict[int, Pieces] = {}
        self._unsent = 0  # bytes of responses in it that are not the last of their calls
        self._stale: dict[str, None] = {model.target: None for model in serving}
        self._writer: Writer[Parcel[pb.ResultBundle]] | None = None
        self._ending = False
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._said_draining = False
        self._told: dict[str, int] = {}  # revisions of what is held against requests
        self._probe = 0
        self._forget = serving.listen(self.touch)

    def open(self, write: "Callable[[Parcel[pb.ResultBundle]], asyncio.Future[None] | None]") -> None:
        """Begins to write, as `Writer` does; the worker speaks first."""
        self._writer = Writer(self._next, write, self._fail)
        self._news()

    def end(self) -> None:
        """Has the stream end once what is under way on it has been answered and sent."""
        self._ending = True
        self._news()

    async def ended(self) -> None:
        """Returns at the end of the stream. Raises what writing failed with."""
        await self._ended

    def touch(self, model: HeldModel) -> None:
        """Marks the load of a model to be sent again."""
        self._stale[model.target] = None
        self._news()

    def touch_all(self) -> None:
        """Marks every load to be sent again."""
        for model in self._serving:
            self.touch(model)

    @property
    def busy(self) -> bool:
        """Tells whether calls are under way or results not yet sent."""
        return bool(self._calls or self._bundle.results)

    def close(self) -> None:
        """Drops the calls of a gateway that has gone."""
        self._forget()
        if self._writer is not None:
            self._writer.close()
        for model, call in self._calls.values():
            model.cancel(call)
        self._calls.clear()

    # --- work in -------------------------------------------------------------------------------------------------

    def take(self, bundle: pb.WorkBundle, large: Large = NONE) -> None:
        """Takes a bundle of work apart. Every item but a CANCEL gets a result, now or later."""
        if bundle.probe:
            self._probe = bundle.probe
            self.touch_all()
            self._news()  # touching does that, too, but there may be no model
        models: dict[HeldModel, None] = {}
        for place, item in enumerate(bundle.items):
            if item.kind == pb.WorkItem.CANCEL:
                self._cancel(item.id)
            else:
                model = self._serving.get(item.target)
                self._submit(item, model, whole(large[place]) if place in large else item.payload)
                if model is not None:
                    models[model] = None
        for model in models:
            model.begin()

    def _submit(self, item: pb.WorkItem, model: HeldModel | None, payload: Bytes) -> None:
        if model is None:
            missing = NotReady(f"version '{item.target}' is not held by this worker: try another", retry_after=1.0)
            self._refuse(item.id, missing, not_started=True)
            return
        if item.kind not in (pb.WorkItem.INFER, pb.WorkItem.STREAM) or item.id in self._calls:
            self._refuse(item.id, InvalidInput(f"item {item.id}: unknown kind {item.kind}, or an id that is in use"))
            return
        if model.decoupled and item.kind == pb.WorkItem.INFER:
            self._refuse(item.id, Unsupported(f"model '{model.deployment}': {ONLY_STREAMED}"))
            return
        try:
            call = self._read(model, item, payload)
        except Exception as error:
            model.refused(error)
            self._refuse(item.id, error)
            return
        self._calls[item.id] = (model, call)
        model.submit(call, item.priority + call.request.wishes.priority)

    def _read(self, model: HeldModel, item: pb.WorkItem, payload: Bytes) -> Call:
        request = model.codec.parse(payload)
        now = self._clock.time()
        left = item.timeout_us / 1e6
        deadline = now + left - min(_WAY, left * left / 2) if left else inf
        if request.wishes.timeout is not None:
            deadline = min(deadline, now + request.wishes.timeout)
        finish: Callable[[Call], None] = self._finished
        if self._traces and telemetry.sampled(item.traceparent):
            finish = self._traced(item, model)
        return Call(
            request,
            finish,
            item.id,
            item.kind == pb.WorkItem.STREAM and not model.decoupled,
            request.rows,
            request.group,
            now,
            deadline,
            emit=self._emitted,
            payload=payload,
            alone=item.alone,
        )

    def _cancel(self, number: int) -> None:
        known = self._calls.pop(number, None)
        if known is not None:
            model, call = known
            model.cancel(call)
            self.touch(model)

    # --- results out ---------------------------------------------------------------------------------------------

    def _finished(self, call: Call) -> None:
        model, _ = self._calls.pop(call.tag)
        if call.error is None:
            item = parcel.add(self._bundle.results, self._large, call.response)
            item.id = call.tag
            item.final, item.queue_us, item.compute_us = True, call.queue_us, call.compute_us
        else:
            self._bundle.results.append(_failure(call.tag, call.error, call.not_started))
        self._stale[model.target] = None
        if self._calls or self._writer is None:
            self._news()
        else:  # nothing to wait for that could leave with it
            self._writer.flush()

    def _emitted(self, call: Call, response: bytes) -> None:
        parcel.add(self._bundle.results, self._large, response).id = call.tag
        self._unsent += len(response)
        if self._unsent > _UNSENT:
            self._cut(call)
        self._news()

    def _cut(self, call: Call) -> None:
        """Ends a call whose responses the gateway does not read; an engine can't be held back for one of many."""
        model, _ = self._calls.pop(call.tag)
        model.cancel(call)
        slow = Overloaded(
            f"model '{model.deployment}': more than {_UNSENT} bytes of responses were not read in time",
            reason="READER_TOO_SLOW",
        )
        self._refuse(call.tag, slow)

    def _refuse(self, number: int, error: BaseException, not_started: bool = False) -> None:
        self._bundle.results.append(_failure(number, error, not_started))
        self._news()

    def _traced(self, item: pb.WorkItem, model: HeldModel) -> Callable[[Call], None]:
        parent = telemetry.extract(item.traceparent, item.tracestate)
        attributes = {"infermesh.target": model.target}
        span = self._tracer.start_span("worker.infer", parent, kind=SpanKind.SERVER, attributes=attributes)

        def finish(call: Call) -> None:
            span.set_attribute("infermesh.queue_us", call.queue_us)
            span.set_attribute("infermesh.compute_us", call.compute_us)
            if call.error is not None:
                span.set_status(Status(StatusCode.ERROR, type(call.error).__name__))
            span.end()
            self._finished(call)

        return finish

    def _news(self) -> None:
        if self._writer is not None:
            self._writer.news()

    def _next(self) -> Parcel[pb.ResultBundle] | None:
        made = self.parcel()
        if made is None and self._ending and not self.busy and not self._ended.done():
            self._ended.set_result(None)
        return made

    def _fail(self, error: Exception) -> None:
        if not self._ended.done():
            self._ended.set_exception(error)

    def parcel(self) -> Parcel[pb.ResultBundle] | None:
        """Returns what has accumulated since the last bundle; None if that is nothing."""
        draining = self._serving.draining
        if not (self._bundle.results or self._stale or self._probe or draining != self._said_draining):
            return None
        bundle, large, self._bundle, self._large, self._unsent = self._bundle, self._large, pb.ResultBundle(), {}, 0
        for target in self._stale:
            bundle.loads.append(self._load(target))
            suspicion = self._suspicion(target)
            if suspicion is not None:
                bundle.suspicions.append(suspicion)
        self._stale = {}
        self._said_draining = bundle.draining = draining
        bundle.probe, self._probe = self._probe, 0
        return Parcel(bundle, large)

    def _suspicion(self, target: str) -> pb.Suspicion | None:
        """Returns what is held against requests of a target, if that has changed since it was told here."""
        model = self._serving.get(target)
        revision = 0 if model is None else model.suspicion.revision
        if self._told.get(target, 0) == revision:
            return None
        self._told[target] = revision
        return pb.Suspicion(target=target) if model is None else model.suspicion.message(target)

    def _load(self, target: str) -> pb.TargetLoad:
        model = self._serving.get(target)
        if model is None or not model.ready:
            return pb.TargetLoad(target=target, gone=True)
        terms = model.terms
        return pb.TargetLoad(
            target=target,
            credit=max(1, -(-model.credit // max(1, self._streams()))),
            queued_rows=model.queued_rows,
            in_flight=model.in_flight,
            service_time_us=terms.service_us,
            free_us=int(model.free_in * 1e6),
            batch_us=terms.batch_us,
            single_us=terms.single_us,
        )


def _failure(number: int, error: BaseException, not_started: bool) -> pb.ResultItem:
    return pb.ResultItem(id=number, error=status.to_status(status.public(error)), final=True, not_started=not_started)
