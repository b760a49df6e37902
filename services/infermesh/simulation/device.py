"""A worker's device and the runners on it: executions that take as long as a curve says, sharing the device's cores."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from infermesh.simulation.curves import Curve
from infermesh.simulation.scenario import Model, Noise
from infermesh.worker.frames import Buffer, Output
from infermesh.worker.runner import LoadReport, RunResult

NUMBER_BYTES = 8
_LATE = 1e-12  # seconds by which floating point may miss an end


@dataclass(slots=True, eq=False)
class _Execution:
    left: float
    then: Callable[[], None]


class Device:
    """One core, shared evenly by the executions under way: two at once take twice as long each."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._active: list[_Execution] = []
        self._since = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def execute(self, seconds: float, then: Callable[[], None]) -> None:
        """Runs something that needs `seconds` of the core; calls `then` when it is done."""
        self._go_on()
        self._active.append(_Execution(seconds, then))
        self._arm()

    def load(self) -> int:
        """Returns how many executions are under way."""
        return len(self._active)

    def _go_on(self) -> None:
        now = self._loop.time()
        if self._active:
            done = (now - self._since) / len(self._active)
            for execution in self._active:
                execution.left -= done
        self._since = now

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._active:
            first = min(execution.left for execution in self._active)
            self._timer = self._loop.call_later(max(0.0, first) * len(self._active), self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._go_on()
        done = [execution for execution in self._active if execution.left <= _LATE]
        self._active = [execution for execution in self._active if execution.left > _LATE]
        self._arm()
        for execution in done:
            execution.then()


class Timing:
    """How long executions really take: by the number of their first request, so that policies meet the same luck."""

    def __init__(self, noise: Noise, rng: Random) -> None:
        self._noise, self._rng = noise, rng
        self._factors: list[float] = []

    def factor(self, number: int) -> float:
        """Returns how many times as long as expected the execution takes that begins with a request."""
        noise, rng, factors = self._noise, self._rng, self._factors
        while len(factors) <= number:
            factor = rng.lognormvariate(0.0, noise.sigma)
            factors.append(factor * noise.stall if rng.random() < noise.stalls else factor)
        return factors[number]


class Runner:
    """Stands in the place of a runner process: runs batches one after the other, and gives every row back.

    The rows are numbers of requests. `began` and `ran` are told of each batch.
    """

    def __init__(
        self,
        model: Model,
        slowness: float,
        device: Device,
        timing: Timing,
        began: Callable[[float, list[int]], None],
        ran: Callable[[float, list[int]], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._curve: Curve = model.curve.scaled(slowness)
        self._device, self._timing, self._began, self._ran = device, timing, began, ran
        self._waiting: deque[tuple[Buffer, asyncio.Future[RunResult]]] = deque()
        self._busy = False
        rows = [rows for rows, _ in model.curve.points if rows < model.max_batch] + [model.max_batch]
        self.report = LoadReport(0, tuple((count, self._curve.seconds(count)) for count in rows))
        self.died: asyncio.Future[str] = self._loop.create_future()

    def run(self, inputs: Sequence[Buffer], outputs: Sequence[str] = ()) -> asyncio.Future[RunResult]:
        """Runs a batch; see `worker.runner.Runner.run`."""
        future: asyncio.Future[RunResult] = self._loop.create_future()
        self._waiting.append((inputs[0], future))
        if not self._busy:
            self._next()
        return future

    def _next(self) -> None:
        batch, future = self._waiting.popleft()
        self._busy = True
        data = b"".join(batch.parts)
        numbers = [int.from_bytes(data[at : at + NUMBER_BYTES], "little") for at in range(0, len(data), NUMBER_BYTES)]
        expected = self._curve.seconds(len(numbers))
        seconds = expected * self._timing.factor(numbers[0])
        self._began(expected * (self._device.load() + 1), numbers)

        def done() -> None:
            self._busy = False
            self._ran(seconds, numbers)
            output = Output("number", batch.datatype, tuple(batch.shape), memoryview(data))
            future.set_result(RunResult([output], int(seconds * 1e6)))
            if self._waiting:
                self._next()

        self._device.execute(seconds, done)

    async def close(self) -> None:
        """Ends nothing: there is no process."""
        self.died.cancel()
