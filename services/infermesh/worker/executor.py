"""Runs batches of one target on its runner and hands the results to the calls. Used by `models` only.

One bad call fails alone: a batch that the model refuses, or fails on, is run again call by call.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

import structlog

from infermesh.errors import Internal, InvalidInput, MeshError, ModelFailed, RunnerDied, WorkerLost
from infermesh.mesh.clock import Clock
from infermesh.worker import results
from infermesh.worker.calls import Call
from infermesh.worker.measures import TargetMeasures
from infermesh.worker.oip_codec import Codec
from infermesh.worker.runner import Runner, RunResult
from infermesh.worker.service_time import ServiceTime
from infermesh.worker.statistics import Statistics
from infermesh.worker.suspicion import Suspicion


class Batch:
    """Calls that are with the runner together."""

    __slots__ = ("calls", "rows", "sent")

    def __init__(self, calls: list[Call], sent: float) -> None:
        self.calls = calls
        self.sent = sent
        self.rows = calls[0].rows if len(calls) == 1 else sum(call.rows for call in calls)


class Executor:
    """The batches under way. `freed` is called whenever one has left the runner, before its calls are answered."""

    def __init__(
        self,
        codec: Codec,
        clock: Clock,
        measures: TargetMeasures,
        statistics: Statistics,
        suspicion: Suspicion,
        freed: Callable[[], None],
    ) -> None:
        self.runner: Runner | None = None
        self.time = ServiceTime()
        self.slots = 0
        self.batches: dict[Batch, None] = {}
        self._codec, self._clock, self._measures, self._statistics = codec, clock, measures, statistics
        self._suspicion, self._freed = suspicion, freed
        self._parted = False
        self._last_end = 0.0
        self._log = structlog.get_logger(__name__)

    def attach(self, runner: Runner) -> None:
        """Takes a loaded runner, and what it measured."""
        self.time = ServiceTime(runner.report.batch_times, self._codec.max_rows)
        self.slots = runner.report.slots
        self.runner, self._parted = runner, False

    def part(self) -> None:
        """Gives the runner up, if it lives: how far it came with what it has is not known."""
        self._parted = self.runner is not None
        self.runner = None

    @property
    def calls(self) -> int:
        """Calls that are with the runner."""
        count = 0
        for batch in self.batches:
            count += len(batch.calls)
        return count

    def lose(self, error: MeshError) -> None:
        """Hears why the runner is gone; batches hear it themselves."""

    def fits(self, calls: Sequence[Call]) -> bool:
        """Tells whether calls may be sent beside what is under way."""
        return True

    def cancel(self, call: Call) -> None:
        """Hears of a call that nobody waits for: its batch is executed all the same."""

    def free_at(self) -> float:
        """Returns when the runner will have done all that it has, by the clock, as far as can be told."""
        end = self._last_end
        for batch in self.batches:
            end = max(end, batch.sent) + self.time.seconds(batch.rows)
        return end

    def send(self, calls: list[Call]) -> None:
        """Sends a batch to the runner. Never calls a `finish` from within."""
        assert self.runner is not None
        now = self._clock.time()
        batch = Batch(calls, now)
        self.batches[batch] = None
        for call in calls:
            call.queue_us = int((now - call.arrived) * 1e6)
        try:
            future = self.runner.run(results.join(self._codec, calls), results.outputs_of(self._codec, calls))
        except Exception as error:
            asyncio.get_running_loop().call_soon(self._failed, batch, error)
            return
        future.add_done_callback(partial(self._finished, batch))

    def _finished(self, batch: Batch, future: asyncio.Future[RunResult]) -> None:
        try:
            self._take_back(batch, future)
        except Exception as error:
            # a fault of ours: whatever it is, no caller may wait for ever
            self._log.error("batch was not answered", exc_info=error)
            self.batches.pop(batch, None)
            self.fail(batch.calls, error)
            self._freed()

    def _take_back(self, batch: Batch, future: asyncio.Future[RunResult]) -> None:
        error = Internal("the run was cancelled") if future.cancelled() else future.exception()
        if error is not None:
            self._failed(batch, error)
            return
        now = self._clock.time()
        del self.batches[batch]
        self._survived(batch)
        # inside the runner it began when the batch before it had ended
        self.time.observe(batch.rows, now - max(batch.sent, self._last_end))
        self._last_end = now
        self._freed()
        self._answer(batch, future.result(), now)

    def _failed(self, batch: Batch, error: BaseException) -> None:
        del self.batches[batch]
        waiting = [call for call in batch.calls if not call.done]
        if isinstance(error, WorkerLost):
            self.runner = None  # what still waits was not begun, and must not be: it is given back by `detach`
            self._lost(batch, waiting, error)
        elif isinstance(error, InvalidInput | ModelFailed) and len(batch.calls) > 1 and self.runner is not None:
            # one of them is bad (many models fail on what they should refuse); which one shows when each runs alone
            for call in waiting:
                self.send([call])
        else:
            self._survived(batch)
            self.fail(waiting, error)
        self._freed()

    def _lost(self, batch: Batch, waiting: list[Call], error: WorkerLost) -> None:
        if isinstance(error, RunnerDied):
            self._accuse(batch.calls, error)
        elif self._parted:
            self.fail(waiting, error)
        else:
            for call in waiting:
                self.refuse(call, error)  # it was behind what the runner died on

    def _accuse(self, calls: Sequence[Call], death: RunnerDied) -> None:
        """Ends calls that were executed when the runner died."""
        if calls[0].alone:
            self._suspicion.convict(calls[0].payload)
        else:
            self._suspicion.suspect([call.payload for call in calls], death)
        for call in calls:
            self.fail([call], self._suspicion.refusal(call.payload) or death)

    def _survived(self, batch: Batch) -> None:
        first = batch.calls[0]
        if first.alone:
            self._suspicion.acquit(first.payload)

    def _answer(self, batch: Batch, result: RunResult, ended: float) -> None:
        try:
            pieces = results.cut(self._codec, batch.calls, result.outputs)
        except Exception as error:
            self.fail(batch.calls, error)
            return
        good: list[Call] = []
        for call, mine in zip(batch.calls, pieces, strict=True):
            if call.done:
                continue
            call.compute_us = result.compute_us
            try:
                call.response = results.respond(self._codec, call, mine)
            except Exception as error:
                self.fail([call], error)
                continue
            call.done = True
            good.append(call)
            call.finish(call)
        self._count(batch, good, result.compute_us, ended)

    def _count(self, batch: Batch, good: Sequence[Call], compute_us: int, ended: float) -> None:
        now = self._clock.time()
        infer = compute_us * 1000
        total, queued, waits = 0.0, 0, []
        for call in good:
            total += now - call.arrived
            queued += call.queue_us
            waits.append(call.queue_us / 1e6)
        # what the way to the runner and back took counts as input, writing the responses as output
        compute = (max(0, int((ended - batch.sent) * 1e9) - infer), infer, int((now - ended) * 1e9))
        self._statistics.executed(batch.rows, len(good), int(total * 1e9), queued * 1000, compute)
        self._measures.executed(batch.rows, compute_us / 1e6, waits)

    def refuse(self, call: Call, error: MeshError) -> None:
        """Ends a call that was never begun."""
        call.not_started = True
        self.fail([call], error)

    def count_refused(self, error: BaseException) -> None:
        """Counts a call that was bad from the beginning."""
        self._statistics.failed(0)
        self._measures.failed(error)

    def fail(self, calls: Sequence[Call], error: BaseException) -> None:
        """Ends calls with an error; those that have ended already stay as they are."""
        now = self._clock.time()
        for call in calls:
            if call.done:
                continue
            call.done = True
            call.error = error
            if not isinstance(error, WorkerLost):  # else it is sent again, and counted by how that ends
                self._statistics.failed(int((now - call.arrived) * 1e9))
            self._measures.failed(error)
            call.finish(call)
