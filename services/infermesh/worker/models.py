"""A version that this worker holds: its queue, its batches, its runner. Used by the servicers and the agent.

Callbacks only, no task for a call: what arrives in one turn of the event loop is planned together in the next, and a
finished batch starts the following one before its own responses are written.
"""

import asyncio
from collections.abc import Callable
from math import inf

from infermesh.errors import MeshError, NotReady, Overloaded, RunnerDied, WorkerLost
from infermesh.mesh.clock import Clock
from infermesh.names import Target, target_of
from infermesh.v1 import deployment_pb2, model_pb2
from infermesh.worker.batcher import MARGIN, Planner, Queue, order_of, plan
from infermesh.worker.calls import Call, too_late
from infermesh.worker.executor import Executor
from infermesh.worker.measures import TargetMeasures
from infermesh.worker.oip_codec import Codec
from infermesh.worker.runner import Runner
from infermesh.worker.sequences import Sequences
from infermesh.worker.statistics import Statistics
from infermesh.worker.suspicion import Suspicion
from infermesh.worker.terms import Terms, best_rows, terms_of
from infermesh.worker.turns import Turn, Turns, Urgency

_PIPELINED = 0.005  # seconds: below it a second batch waits inside the runner, to hide the way there and back
ONLY_STREAMED = "its requests may have any number of responses: call it by ModelStreamInfer, not by ModelInfer"
_MOST_QUEUED = 10_000  # calls; gateways keep to their credit, direct callers know none


class HeldModel:
    """One version of one deployment, ready or not. Lives in one event loop; `changed` is told of every new credit."""

    def __init__(
        self,
        deployment: str,
        number: str,
        version: model_pb2.ModelVersion,
        clock: Clock,
        measures: TargetMeasures,
        changed: Callable[["HeldModel"], None] = lambda model: None,
        *,
        planner: Planner = plan,
        turns: Turns | None = None,
    ) -> None:
        self.deployment, self.number, self.version = deployment, number, version
        self.target: Target = target_of(deployment, number)
        self.codec = Codec(deployment, number, version)
        self.statistics = Statistics()
        self.suspicion = Suspicion(deployment, number, self._accused)
        self._clock, self._changed, self._plan = clock, changed, planner
        self._measures = measures
        self._loop = asyncio.get_running_loop()
        self.decoupled: bool = version.decoupled
        """Whether a call may have any number of responses."""
        kind = Sequences if self.decoupled else Executor
        self._executor = kind(self.codec, clock, measures, self.statistics, self.suspicion, self._freed)
        self._queue: Queue[Call] = Queue()
        self._waiting = self._queue.items
        self._turns = turns or Turns()
        self._turn = Turn(self._urgency, self._executor.free_at, self._pump_soon)
        self._limit, self._max_delay = 0 if self.decoupled else version.max_batch_size, 0.0
        self._calls = 0
        self._rows_per_call = 1.0
        self._terms: Terms | None = None
        self._terms_of = 0
        self._open = self._pump_due = False
        self._away: MeshError | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = inf
        self._idle: asyncio.Future[None] | None = None  # of those who wait for it

    def set_batching(self, batching: deployment_pb2.Batching) -> None:
        """Takes the deployment's batching: at most the version's own limit of rows."""
        own = 0 if self.decoupled else self.version.max_batch_size  # 0: calls go to the runner one by one
        self._limit = min(own, batching.max_batch_size) if batching.max_batch_size > 0 else own
        self._max_delay = batching.max_delay.ToTimedelta().total_seconds()
        self._terms = None
        self._changed(self)

    def attach(self, runner: Runner) -> None:
        """Begins to serve with a loaded runner."""
        self._executor.attach(runner)
        self._open, self._away, self._terms = True, None, None
        self.suspicion.runner_is_back()
        self._changed(self)

    def retire(self) -> None:
        """Takes no more calls; those that are here are finished."""
        self._open = False
        self._changed(self)

    def detach(self, error: MeshError) -> None:
        """Parts from the runner: calls that wait fail with `error` as not started, those under way end with it.

        RunnerDied makes those suspect that were under way.
        """
        away = WorkerLost(error.message, retry_after=error.retry_after) if isinstance(error, RunnerDied) else error
        self._open, self._away = False, away
        self._executor.part()
        self._turns.give(self._turn)
        self._executor.lose(error)
        for call in self._queue.clear():
            self._executor.refuse(call, self._quarantine(call) or away)
        self._look_idle()
        self._changed(self)

    def count_death(self) -> None:
        """Counts a runner that died."""
        self._measures.runner_deaths += 1

    async def until_idle(self) -> None:
        """Returns once no call waits or is under way."""
        while self._waiting or self._executor.batches:
            if self._idle is None:
                self._idle = self._loop.create_future()
            await asyncio.shield(self._idle)

    @property
    def ready(self) -> bool:
        """Tells whether calls are taken."""
        return self._open and self._executor.runner is not None

    @property
    def queued_rows(self) -> int:
        """Rows that wait."""
        return self._queue.rows

    @property
    def in_flight(self) -> int:
        """Calls that wait or are executed."""
        return len(self._waiting) + self._executor.calls

    @property
    def free_in(self) -> float:
        """Seconds until the runner has done what it has, and may go on."""
        return max(0.0, self._free_at() - self._clock.time())

    def _free_at(self) -> float:
        return max(self._executor.free_at(), self._turns.free_at(self._turn))

    @property
    def terms(self) -> Terms:
        """What gateways are told of it, which is computed anew after a few runs, or when something else has changed."""
        time = self._executor.time
        if self._terms is None or self._terms_of != time.revision:
            self._terms, self._terms_of = terms_of(time, self._limit, self._rows_per_call), time.revision
        return self._terms

    @property
    def credit(self) -> int:
        """Calls that all gateways together may have here."""
        if not self.ready:
            return 0
        return self._executor.slots if self.decoupled else self.terms.credit

    def submit(self, call: Call, priority: int = 0) -> None:
        """Queues a call; higher `priority` goes first. Its `finish` is called later, never from within."""
        suspicious = self.suspicion.any
        refusal = self._refusal() or (self._quarantine(call) if suspicious else None)
        if refusal is not None:
            self._loop.call_soon(self._executor.refuse, call, refusal)
            return
        if call.alone or (suspicious and self.suspicion.suspected(call.payload)):
            call.alone, call.group = True, call  # nothing else is of this group
        self._calls += 1
        call.order = order_of(priority, call.deadline, self._calls)
        if call.rows != self._rows_per_call:
            self._rows_per_call += 0.05 * (call.rows - self._rows_per_call)
            self._terms = None
        self._queue.add(call)
        self._pump_soon()

    def _pump_soon(self) -> None:
        if not self._pump_due:
            self._pump_due = True
            self._loop.call_soon(self.begin)

    def begin(self) -> None:
        """Plans what was submitted now, instead of at the end of this turn of the loop."""
        if self._pump_due:
            self._pump()

    def _urgency(self) -> Urgency:
        return (*self._waiting[0].order[:2], self._waiting[0].arrived) if self._waiting else (inf,)

    def _refusal(self) -> MeshError | None:
        if not self.ready:
            text = f"version '{self.target}' is not ready on this worker: try again"
            return self._away or NotReady(text, retry_after=1.0)
        if len(self._waiting) >= _MOST_QUEUED:
            return Overloaded(f"version '{self.target}': {_MOST_QUEUED} calls wait already", retry_after=1.0)
        return None

    def _quarantine(self, call: Call) -> MeshError | None:
        return self.suspicion.refusal(call.payload) if self.suspicion.any else None

    def _accused(self) -> None:
        self._measures.quarantined = self.suspicion.quarantined
        self._changed(self)

    def cancel(self, call: Call) -> None:
        """Forgets a call: it leaves the queue, or its result is dropped. Its `finish` is not called any more."""
        call.done = True
        if not self._queue.remove(call):
            self._executor.cancel(call)
        self._look_idle()

    def refused(self, error: BaseException) -> None:
        """Counts a call that was refused before it became one."""
        self._executor.count_refused(error)

    def _pump(self) -> None:
        """Sends batches to the runner as long as it should have more."""
        self._pump_due = False
        wake, executor, waiting = inf, self._executor, self._waiting
        while waiting and executor.runner is not None and self._room():
            now = self._clock.time()
            begin = max(now, executor.free_at())
            planned = self._plan(begin, waiting, executor.time, self._limit, self._max_delay)
            if planned.late:
                self._queue.take(planned.late)
                self._expire(planned.late, now)
            if not planned.batch or not executor.fits(planned.batch):
                wake = planned.wake
                break
            self._queue.take(planned.batch)
            executor.send(planned.batch)
        if not executor.batches and (not waiting or wake < inf or executor.runner is None):
            self._turns.give(self._turn)
        if waiting:
            self._give_up()
            self._arm(wake)
        self._look_idle()

    def _give_up(self) -> None:
        """Refuses at once what waits and can't be met any more when the runner has done what it has."""
        if (free_at := self._free_at()) <= self._clock.time():
            return
        earliest = free_at + self._executor.time.needed(1) + MARGIN
        if self._waiting[0].deadline < earliest:
            hopeless = [call for call in self._waiting if call.deadline < earliest]
            self._queue.take(hopeless)
            self._expire(hopeless, self._clock.time())

    def _room(self) -> bool:
        under_way = len(self._executor.batches)
        if self.decoupled:
            return under_way < self._executor.slots
        if under_way != 1:
            return under_way == 0 and self._turns.take(self._turn)
        # a second batch only where runs are so short that no deadline passes inside the runner, and only a good one
        short = self._executor.time.seconds(self._limit or 1) <= _PIPELINED and not self._turns.crowded()
        return short and self._queue.rows >= best_rows(self._executor.time, self._limit)

    def _freed(self) -> None:
        if not self._executor.batches:
            self._turns.give(self._turn, again=bool(self._waiting))
        if not self._waiting:
            self._look_idle()
        elif not self._pump_due:
            self._pump()

    def _expire(self, calls: list[Call], now: float) -> None:
        for call in calls:
            if call.deadline > now:
                self._executor.time.doubt()
            self._executor.refuse(call, too_late(call, now))

    def _arm(self, wake: float) -> None:
        """Sets the timer to `wake` or the earliest deadline that waits; one that rings too early does no harm."""
        if not self._waiting:
            return
        at = min(wake, self._queue.first_deadline())
        if at < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            # timers of the loop count in milliseconds: ring rather late than in vain
            delay = max(0.0, at - self._clock.time()) + 0.001
            self._timer, self._timer_at = self._loop.call_later(delay, self._ring), at

    def _ring(self) -> None:
        self._timer, self._timer_at = None, inf
        now = self._clock.time()
        expired = self._queue.expired(now)
        if expired:
            self._expire(expired, now)
        if not self._pump_due:
            self._pump()

    def _look_idle(self) -> None:
        if self._idle is not None and not self._waiting and not self._executor.batches:
            self._idle.set_result(None)
            self._idle = None
