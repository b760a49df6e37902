"""Workers whose runners die of a certain number: the worker's own code, over runners that only take time, for virtual
time."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, cast

from opentelemetry.trace import NoOpTracer
from prometheus_client import CollectorRegistry

from infermesh.errors import RunnerDied, WorkerLost
from infermesh.gateway.streams import Take
from infermesh.mesh.parcel import Large, Parcel, pieces, read
from infermesh.oip.v2 import grpc_service_pb2 as oip
from infermesh.v1 import model_pb2
from infermesh.v1.worker_service_pb2 import ResultBundle, WorkBundle
from infermesh.worker.frames import Buffer, Output
from infermesh.worker.measures import Measures
from infermesh.worker.models import HeldModel
from infermesh.worker.runner import LoadReport, Runner, RunResult
from infermesh.worker.serving import Serving
from infermesh.worker.streams import GatewayStream

DEADLY = 666
_BYTES = 8


def request(number: int, id: str = "") -> bytes:
    """Returns a request with one row."""
    message = oip.ModelInferRequest(model_name="digits", id=id)
    message.inputs.add(name="x", datatype="INT64", shape=[1, 1])
    message.raw_input_contents.append(number.to_bytes(_BYTES, "little"))
    return message.SerializeToString()


def answer(response: bytes) -> tuple[str, int]:
    """Returns id and number of a response."""
    message = oip.ModelInferResponse.FromString(response)
    return message.id, int.from_bytes(message.raw_output_contents[0], "little")


class MortalRunner:
    """Takes `seconds` for a batch and gives its rows back; dies of a batch with a deadly row."""

    def __init__(self, seconds: float, ended: str, died: Callable[[], None]) -> None:
        self.report = LoadReport(0, ((1, seconds), (16, seconds)))
        self._loop = asyncio.get_running_loop()
        self._seconds, self._ended, self._died = seconds, ended, died
        self._waiting: deque[tuple[Buffer, asyncio.Future[RunResult]]] = deque()

    def run(self, inputs: Sequence[Buffer], outputs: Sequence[str] = ()) -> asyncio.Future[RunResult]:
        future: asyncio.Future[RunResult] = self._loop.create_future()
        self._waiting.append((inputs[0], future))
        if len(self._waiting) == 1:
            self._loop.call_later(self._seconds, self._done)
        return future

    def _done(self) -> None:
        if not self._waiting:
            return  # it was killed
        batch, future = self._waiting[0]
        data = b"".join(batch.parts)
        if DEADLY in (int.from_bytes(data[at : at + _BYTES], "little") for at in range(0, len(data), _BYTES)):
            self.die(self._ended)
            return
        self._waiting.popleft()
        future.set_result(RunResult([Output("y", "INT64", tuple(batch.shape), memoryview(data))], 10))
        if self._waiting:
            self._loop.call_later(self._seconds, self._done)

    def die(self, ended: str) -> None:
        """Ends as a process would: what it executes knows how, what waits was not begun."""
        error: WorkerLost = RunnerDied(ended, metadata={"ended": ended})
        for _, future in self._waiting:
            future.set_exception(error)
            error = WorkerLost(ended)
        self._waiting.clear()
        self._died()


class MortalWorker:
    """One worker that holds digits/1, and brings a dead runner back after `restart` seconds."""

    def __init__(
        self, name: str, *, seconds: float = 0.002, restart: float = 1.0, ended: str = "exit status 3"
    ) -> None:
        self.name, self.address = name, f"{name}:1"
        self.seconds, self.restart, self.ended = seconds, restart, ended
        self.deaths = 0
        self.on_change: Callable[[MortalWorker], None] = lambda worker: None
        self._loop = asyncio.get_running_loop()
        self._serving = Serving()
        self._streams: dict[GatewayStream, None] = {}
        self.model = HeldModel("digits", "1", _version(), self._loop, _measures(), self._serving.changed)  # type: ignore[arg-type]
        self._serving.add(self.model)
        self._attach()

    def _attach(self) -> None:
        self.runner = MortalRunner(self.seconds, self.ended, self._died)
        self.model.attach(cast(Runner, self.runner))
        self.on_change(self)

    def _died(self) -> None:
        self.deaths += 1
        self._loop.call_soon(self._notice)
        self._loop.call_later(self.restart, self._attach)

    def _notice(self) -> None:
        self.model.detach(WorkerLost("its runner died", retry_after=1.0))
        self.on_change(self)

    def accept(self, write: Callable[[Parcel[ResultBundle]], None]) -> GatewayStream:
        stream = GatewayStream(self._serving, self._loop, NoOpTracer(), lambda: len(self._streams))  # type: ignore[arg-type]
        self._streams[stream] = None
        stream.open(write)
        return stream

    def leave(self, stream: GatewayStream) -> None:
        if stream in self._streams:
            del self._streams[stream]
            stream.close()


class MortalStream:
    """A gateway's stream to a mortal worker; bundles take half a millisecond."""

    def __init__(self, worker: MortalWorker) -> None:
        self._worker, self._loop = worker, asyncio.get_running_loop()
        self._arrived: deque[tuple[ResultBundle, Large]] = deque()
        self._news = asyncio.Event()
        self._broken = False
        self._far = worker.accept(self._send)

    def _send(self, parcel: Parcel[ResultBundle]) -> None:
        self._loop.call_later(0.0005, self._arrive, b"".join(pieces(parcel)))

    def _arrive(self, data: bytes) -> None:
        self._arrived.append(read(data, ResultBundle))
        self._news.set()

    def cut(self) -> None:
        """Breaks, as when the worker dies."""
        self._broken = True
        self._worker.leave(self._far)
        self._news.set()

    async def run(self, take: Take) -> NoReturn:
        while True:
            while not self._arrived:
                if self._broken:
                    raise WorkerLost("the stream broke")
                self._news.clear()
                await self._news.wait()
            take(*self._arrived.popleft())

    def write(self, parcel: Parcel[WorkBundle]) -> None:
        if self._broken:
            raise WorkerLost("the stream broke")
        self._loop.call_later(0.0005, self._far.take, *read(b"".join(pieces(parcel)), WorkBundle))

    async def close(self) -> None:
        self._worker.leave(self._far)


def _version() -> model_pb2.ModelVersion:
    version = model_pb2.ModelVersion(name="models/digits/versions/1", max_batch_size=16)
    version.signature.inputs.add(name="x", datatype="INT64", shape=[-1, 1])
    version.signature.outputs.add(name="y", datatype="INT64", shape=[-1, 1])
    return version


def _measures() -> Any:
    return Measures(CollectorRegistry()).of("digits", "1")
