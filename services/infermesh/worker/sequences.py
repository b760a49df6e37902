"""Runs the calls of a decoupled version: each is a sequence with any number of responses. Used by `models` only.

One message of the runner holds what one step of its engine gave to all the sequences; here it is taken apart.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from math import inf
from typing import Final

from infermesh.errors import DeadlineExceeded, Internal, MeshError, RunnerDied, WorkerLost
from infermesh.mesh.clock import Clock
from infermesh.mesh.parcel import joined
from infermesh.mesh.status import from_status
from infermesh.v1 import runner_pb2
from infermesh.worker import results
from infermesh.worker.calls import Call
from infermesh.worker.executor import Batch, Executor
from infermesh.worker.frames import Output, split
from infermesh.worker.measures import TargetMeasures
from infermesh.worker.oip_codec import Codec
from infermesh.worker.runner import Runner
from infermesh.worker.statistics import Statistics
from infermesh.worker.suspicion import Suspicion

_UINT32: Final = 2**32 - 1


class Running(Batch):
    """A call that is with the runner, as the sequence of this number."""

    __slots__ = ("call", "number", "prefix", "timer")

    def __init__(self, call: Call, sent: float, prefix: bytes) -> None:
        super().__init__([call], sent)
        self.call = call
        self.prefix = prefix
        self.number = 0
        self.timer: asyncio.TimerHandle | None = None


class Sequences(Executor):
    """The sequences under way. `freed` is called whenever one has ended, before its call is answered."""

    def __init__(
        self,
        codec: Codec,
        clock: Clock,
        measures: TargetMeasures,
        statistics: Statistics,
        suspicion: Suspicion,
        freed: Callable[[], None],
    ) -> None:
        super().__init__(codec, clock, measures, statistics, suspicion, freed)
        self._running: dict[int, Running] = {}

    def attach(self, runner: Runner) -> None:
        """Takes a loaded runner, and what it measured."""
        super().attach(runner)
        runner.emitted = self._emitted

    def lose(self, error: MeshError) -> None:
        """Ends every sequence with the error that says why the runner is gone."""
        lost = list(self._running.values())
        for running in lost:
            self._leave(running)
        if lost and isinstance(error, RunnerDied):
            self._accuse([running.call for running in lost], error)
        self.fail([running.call for running in lost], error)

    def fits(self, calls: Sequence[Call]) -> bool:
        """Tells whether sequences may be under way together: one that is alone has the engine for itself."""
        beside = next(iter(self._running.values()), None)
        return beside is None or not (beside.call.alone or calls[0].alone)

    def send(self, calls: list[Call]) -> None:
        """Begins a sequence for each call. Never calls a `finish` from within."""
        for call in calls:
            self._begin(call)

    def cancel(self, call: Call) -> None:
        """Ends the sequence of a call that nobody waits for."""
        running = next((running for running in self._running.values() if running.call is call), None)
        if running is not None:
            self._drop(running)
            self._freed()

    def _begin(self, call: Call) -> None:
        assert self.runner is not None
        loop = asyncio.get_running_loop()
        now = self._clock.time()
        running = Running(call, now, self._codec.prefix(call.request))
        call.queue_us = int((now - call.arrived) * 1e6)
        try:
            wanted = results.outputs_of(self._codec, [call])
            running.number = self.runner.begin(results.join(self._codec, [call]), wanted)
        except Exception as error:
            if isinstance(error, WorkerLost):
                loop.call_soon(self.refuse, call, error)
            else:
                loop.call_soon(self.fail, [call], error)
            return
        self.batches[running] = None
        self._running[running.number] = running
        if call.deadline < inf:
            running.timer = loop.call_later(call.deadline - now, self._late, running)

    def _late(self, running: Running) -> None:
        self._drop(running)
        self._freed()
        self.fail(running.calls, DeadlineExceeded("deadline passed before the last response"))

    def _drop(self, running: Running) -> None:
        """Takes a sequence out that the runner has not ended."""
        self._leave(running)
        if self.runner is not None:
            self.runner.forget(running.number)

    def _leave(self, running: Running) -> None:
        del self._running[running.number]
        del self.batches[running]
        if running.timer is not None:
            running.timer.cancel()

    # --- what the runner says ------------------------------------------------------------------------------------

    def _emitted(self, emissions: Sequence[runner_pb2.Emission], payload: memoryview) -> None:
        at = 0
        for emission in emissions:
            size = sum(spec.size_bytes for spec in emission.outputs)
            try:
                self._take(emission, payload[at : at + size])
            except Exception as error:
                # a fault of ours: whatever it is, no caller may wait for ever
                self._log.error("emission was not understood", exc_info=error)
                self._fail_all(emission.sequences, Internal("an answer of the runner was not understood"))
            at += size

    def _take(self, emission: runner_pb2.Emission, payload: memoryview) -> None:
        if emission.HasField("error"):
            self._fail_all(emission.sequences, from_status(emission.error), over=True)
            return
        known = [self._running.get(number) for number in emission.sequences]
        finished = set(emission.finished)
        for running, response in zip(known, self._responses(known, emission, payload), strict=True):
            if running is None:
                continue  # it was cancelled meanwhile
            if isinstance(response, Exception):
                self._fail_all([running.number], response)
            elif running.number in finished:
                self._finish(running, response)
            elif running.call.emit is not None:
                running.call.emit(running.call, response)

    def _responses(
        self, known: Sequence[Running | None], emission: runner_pb2.Emission, payload: memoryview
    ) -> Iterable[bytes | Exception]:
        """Returns what each sequence of an emission is answered: nothing where it only ends."""
        if not emission.outputs:
            return [b""] * len(known)
        outputs = [
            Output(spec.name, spec.datatype, tuple(spec.shape), data)
            for spec, data in zip(emission.outputs, split(emission.outputs, payload), strict=True)
        ]
        if any(running is not None and running.call.request.wanted for running in known):
            pieces = results.unstack(outputs, len(known))
            return [self._selected(running, mine) for running, mine in zip(known, pieces, strict=True)]
        tails = results.tails(self._codec, outputs, len(known))
        return [b"" if running is None else running.prefix + tail for running, tail in zip(known, tails, strict=True)]

    def _selected(self, running: Running | None, pieces: list[results.Piece]) -> bytes | Exception:
        try:
            return b"" if running is None else joined(results.respond(self._codec, running.call, pieces))
        except Exception as error:
            return error

    def _finish(self, running: Running, response: bytes) -> None:
        call, now = running.call, self._clock.time()
        self._leave(running)
        self._survived(running)
        self._freed()
        call.compute_us = min(int((now - running.sent) * 1e6), _UINT32)
        call.response, call.done = response, True
        call.finish(call)
        infer = call.compute_us * 1000
        total = int((now - call.arrived) * 1e9)
        self._statistics.executed(call.rows, 1, total, call.queue_us * 1000, (0, infer, 0))
        self._measures.executed(call.rows, call.compute_us / 1e6, [call.queue_us / 1e6])

    def _fail_all(self, numbers: Sequence[int], error: BaseException, *, over: bool = False) -> None:
        """Fails sequences; those that are not `over` for the runner, too, end there."""
        for number in numbers:
            running = self._running.get(number)
            if running is not None:
                if over:
                    self._leave(running)
                else:
                    self._drop(running)
                self._survived(running)
                self._freed()
                self.fail(running.calls, error)
