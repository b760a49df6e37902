"""Sends calls to workers, late: a call waits here until a worker that has its model has credit for it."""

import asyncio
from collections.abc import Sequence
from typing import Final

from infermesh.errors import MeshError, QueryOfDeath, RunnerDied
from infermesh.gateway import admission
from infermesh.gateway.admission import Limits
from infermesh.gateway.calls import Call
from infermesh.gateway.deadlines import Deadlines
from infermesh.gateway.directory import Directory
from infermesh.gateway.fleet import Fleet
from infermesh.gateway.hedging import Hedges
from infermesh.gateway.holding import Holds
from infermesh.gateway.parking import Parking
from infermesh.gateway.pending import DirectPending, Pending, PendingStream, Sink
from infermesh.gateway.quarantine import Quarantines
from infermesh.gateway.retries import Retries
from infermesh.gateway.routes import RouteTable
from infermesh.gateway.singleflight import SingleFlight
from infermesh.gateway.stats import OK, TargetStats, now_seconds
from infermesh.gateway.targets import TargetState
from infermesh.gateway.tracing import Tracing
from infermesh.gateway.unrouted import Unrouted
from infermesh.mesh.wire import Bytes
from infermesh.v1.worker_service_pb2 import Suspicion, WorkItem

_PAUSE: Final = 0.05  # seconds before a call goes to a worker that has failed it, times the attempts


class Dispatcher:
    """Front ends call `infer` and `stream`; both return at once and never raise.

    A call goes out at once if a worker has credit for it. If not, it waits in its target's queue. If no worker of the
    target can be reached it waits as well, but for `Limits.hold` seconds only, counted from when the last of them was
    lost. If the routes have just lost what it names, it is parked as long for new routes; if they say that its pool may
    grow from nothing, it is held for that.

    Belongs to the event loop in which it is made; nothing in it blocks or awaits.
    """

    def __init__(
        self, routes: RouteTable, directory: Directory, fleet: Fleet, limits: Limits, tracing: Tracing
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._routes = routes
        self._directory, self._targets = directory, directory.targets
        self._fleet = fleet
        self._limits = limits
        self._tracing = tracing
        self._deadlines: Deadlines[Pending] = Deadlines(self._loop, self._expire)
        self._parking = Parking(self._loop)
        self.held = Unrouted(self._loop, routes, directory, self._parking, limits, self._resume)
        self._holds = Holds(self._loop, limits.hold)
        self._quarantines = Quarantines(self._parking, self._resume, limits)
        self._retries = Retries(limits, self._loop.time())
        self._flights = SingleFlight(self._resume, limits, directory.tally)
        self._arrived = 0
        self._stopped = False
        self.unrouted = TargetStats("", "")

    def infer(self, call: Call) -> asyncio.Future[Bytes]:
        """Returns the future of a serialised `inference.ModelInferResponse`.

        Its exception is a MeshError. Cancelling the future cancels the call at the worker.
        """
        self._arrived += 1
        pending = Pending(call, self, self._arrived, self._loop)
        self._begin(pending)
        return pending

    def submit(self, call: Call, sink: Sink) -> DirectPending:
        """Begins a call whose result `sink` gets, perhaps before this returns. Cancel what it returns to give it up."""
        self._arrived += 1
        pending = DirectPending(call, self, self._arrived, self._loop, sink)
        self._begin(pending)
        return pending

    def stream(self, call: Call) -> PendingStream:
        """Returns the responses as they come; iterating raises MeshError. Closing it (`aclose`) cancels the call.

        The call begins now, not with the first iteration. A reader that is too far behind gets Overloaded.
        """
        self._arrived += 1
        pending = PendingStream(call, self, self._arrived, self._loop, self._limits.max_unread_bytes)
        self._begin(pending)
        return pending

    def in_flight(self) -> int:
        """Returns the calls that have begun and not ended."""
        waiting = sum(target.waiting() for target in self._directory)
        return waiting + len(self._parking) + len(self.held) + sum(len(link.calls) for link in self._fleet)

    def _begin(self, pending: Pending) -> None:
        call = pending.call
        refusal = admission.check(call, self._limits, self._loop.time())
        if refusal is None and self._stopped:
            refusal = admission.stopped(call)
        if refusal is not None:
            pending.fail(refusal)
            return
        self._retries.earn()
        if self._tracing.enabled and call.traceparent:
            self._tracing.begin(pending)
        if call.deadline is not None:
            self._deadlines.add(pending, call.deadline)
        self._route(pending)

    def _route(self, pending: Pending) -> None:
        call = pending.call
        try:
            name = self._routes.resolve(call.deployment, call.version)
        except MeshError as error:
            self.held.take(pending, error)
        else:
            target = self._targets[name]
            if target.special and pending.kind == WorkItem.INFER:
                self._enter(pending, target)
            else:
                self._place(pending, target)

    def _enter(self, pending: Pending, target: TargetState) -> None:
        """What deployments may ask for: the same request runs once, a slow call is sent twice."""
        if target.route.single_flight and self._flights.join(pending, target):
            return
        if target.route.hedge_budget:
            if target.hedges is None:
                target.hedges = Hedges(target, self._loop)
            target.hedges.watch(pending)
        self._place(pending, target)

    def _place(self, pending: Pending, target: TargetState) -> None:
        pending.target = target
        if target.quarantine is not None and not target.quarantine.admit(pending):
            return
        lane = target.pick(pending.tried)
        if lane is not None:
            lane.ledger.send(lane, pending)
        else:
            self._wait(pending, target)

    def _wait(self, pending: Pending, target: TargetState) -> None:
        call, limits = pending.call, self._limits
        refusal: MeshError | None = None
        if not target.hopeful:
            refusal = admission.no_worker(call, limits.hold, target.route.retry_after)
        elif pending.attempts == 0:  # what comes back from a worker was let in before
            limit = target.route.max_queue or limits.max_queue
            if len(target.queue) >= limit:
                refusal = admission.queue_full(call, limit, target.drain_time())
            elif self._directory.tally.bytes + len(call.payload) > limits.max_waiting_bytes:
                refusal = admission.memory_full(call, limits.max_waiting_bytes, target.drain_time())
            elif call.deadline is not None:
                refusal = target.refusal(pending, self._loop.time())
        if refusal is not None:
            pending.fail(refusal)
        else:
            target.queue.push(pending)

    def withdraw(self, pending: Pending) -> None:
        """Takes a call out of wherever it is."""
        target = pending.target
        if pending.ticket and target is not None:
            target.queue.remove(pending)
        elif pending.lane is not None:
            pending.lane.ledger.cancel(pending)
            if target is not None and target.queue:
                self.freed(target)
        else:
            self._parking.leave(pending)
            self.held.leave(pending)

    def ended(self, pending: Pending, code: str, queue_us: int, compute_us: int) -> None:
        """Counts a call that has ended."""
        if pending.slot is not None or pending.timer is not None:
            self._deadlines.discard(pending)
        stats = pending.target.stats if pending.target is not None else self.unrouted
        seconds = now_seconds() - pending.started
        if code is OK:
            stats.succeed(seconds, queue_us, compute_us)
        else:
            stats.fail(code, seconds)
        if pending.span is not None:
            self._tracing.end(pending, code)
        if pending.alone:
            self._quarantines.tried(pending, code)

    def _expire(self, pending: Pending) -> None:
        error = self.held.overdue(pending) or admission.too_late(pending.call)
        self.withdraw(pending)
        pending.fail(error)

    def returned(self, pending: Pending, worker: str, error: MeshError, not_started: bool) -> None:
        """Sends a call again that came back from a worker without an answer, or ends it with `error`."""
        if pending.done():
            return
        if pending.alone and not isinstance(error, QueryOfDeath):
            self._quarantines.tried(pending, "")
        if self._quarantines.excuses(pending, error, not_started):
            self._resume(pending)
            return
        if isinstance(error, QueryOfDeath) and not pending.repeatable():
            error = RunnerDied(error.message, retry_after=1.0)  # a stream that had begun is cut, whatever the cause
        if pending.sent:
            if not self._retries.allowed(pending, error, not_started, self._loop.time()):
                pending.fail(error)
                return
            pending.tried = (*pending.tried, worker)
            if pending.target is not None:
                pending.target.stats.retries += 1
        self._again(pending)

    def lost(self, calls: Sequence[Pending], worker: str, error: MeshError) -> None:
        """Sends the calls again that a worker took with it: together, as one withdrawal from the retry budget."""
        with self._retries.one_event(self._loop.time()):
            for pending in calls:
                self.returned(pending, worker, error, not pending.sent)

    def accused(self, worker: str, told: Suspicion) -> None:
        """Takes back the calls that ask what a runner may have died on, from where they could kill another.

        Those at the worker that says so come back by themselves: it has refused them, and counted that.
        """
        target = self._directory.find(told.target)
        quarantine = self._quarantines.hear(worker, told, target)
        if quarantine is None or target is None:
            return
        others = [link.calls for link in self._fleet if link.key.id != worker]
        under_way = [pending for calls in others for pending in calls.under_way(told.target)]
        for pending in quarantine.sort_out([*target.queue, *under_way]):
            self.withdraw(pending)
            self._place(pending, target)

    def _again(self, pending: Pending) -> None:
        target = pending.target
        if pending.tried and target is not None and target.exhausted(pending.tried):
            # it goes back to a worker that has failed it: not before that worker had a moment to recover
            self._parking.park(pending, _PAUSE * pending.attempts, lambda: self._resume(pending))
        else:
            self._resume(pending)

    def _resume(self, pending: Pending) -> None:
        if pending.target is not None and pending.target.routed:
            self._place(pending, pending.target)
        else:
            self._route(pending)

    def freed(self, target: TargetState) -> None:
        """Sends what waits for a target, as far as there is credit; what can't be answered in time is refused."""
        queue, skipped, now = target.queue, [], self._loop.time()
        for pending in target.shed(now):
            pending.fail(admission.hopeless(pending.call, target.drain_time()))
        while queue and target.has_credit():
            pending = queue.pop()
            lane = target.pick(pending.tried)
            if lane is not None:
                target.forecast.left(now)
                lane.ledger.send(lane, pending)
            else:  # it waits for a worker that it has not been to, or, as all behind it, for a better one
                skipped.append(pending)
                if not pending.tried:
                    break
        for pending in skipped:
            queue.push(pending)
        if not queue:
            target.forecast.emptied()

    def changed(self, target: TargetState) -> None:
        """Sends what waits for a target that is back, or begins to count the time that it is away."""
        if target.quarantine is not None:
            target.quarantine.look()
        if self._holds.look(target):
            self.freed(target)

    def refresh(self) -> None:
        """Brings workers and targets in line with the routes; calls whose target is gone are resolved anew."""
        self._fleet.sync(self._routes.workers.values())
        changes = self._directory.sync(self._routes, self._fleet, self._loop.time())
        self._quarantines.forget(self._routes.lacks)
        for target in (*changes.added, *changes.kept):
            self._quarantines.join(target)
            self.changed(target)
        for target in changes.removed:
            for pending in target.drain():
                self._route(pending)
        for pending in self._parking.clear():
            self._resume(pending)
        self.held.look()

    def stop(self) -> None:
        """Ends every call that is still under way; later ones are refused."""
        self._stopped = True
        left = [*self._fleet.stop(), *self._parking.clear(), *self.held.clear()]
        for target in self._directory:
            target.stop_hold()
            left += target.drain()
        for pending in left:
            pending.fail(admission.stopped(pending.call))
