"""One worker as the gateway sees it: its stream, kept open. Used by the fleet."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from random import Random

import structlog

from infermesh.errors import MeshError, WorkerLost
from infermesh.gateway.admission import Limits
from infermesh.gateway.ledger import Ledger, Sink
from infermesh.gateway.liveness import Liveness
from infermesh.gateway.streams import Connect, ServeStream
from infermesh.mesh.backoff import Backoff
from infermesh.mesh.parcel import Large, Parcel
from infermesh.mesh.writer import Writer
from infermesh.v1.worker_service_pb2 import ResultBundle, WorkBundle

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WorkerKey:
    """One life of one worker process. `id` alone is not enough: a restarted worker knows nothing of earlier calls."""

    id: str
    address: str
    incarnation: str


class Link:
    """Keeps one stream to a worker open, for as long as `run` runs.

    `calls` is what the stream carries. `live` is True from the worker's first bundle on until the stream breaks. A call
    that finds none under way leaves at once; what is sent within one turn of the loop else, or while an earlier bundle
    is still being written, leaves in one bundle. There is no timer.
    """

    def __init__(
        self, key: WorkerKey, *, gateway: str, connect: Connect, sink: Sink, limits: Limits, rng: Random
    ) -> None:
        self.key = key
        self.live = False
        self.calls = Ledger(key.id, sink, limits.bundle_bytes, self._news)
        self._liveness = Liveness(key.id, self.calls, limits.silence, limits.probe_timeout)
        self._gateway = gateway
        self._connect = connect
        self._connect_timeout = limits.connect_timeout
        self._backoff = Backoff(rng.random, first=0.05)
        self._writer: Writer[Parcel[WorkBundle]] | None = None
        self._over: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
        self._retired = self._greeted = False
        self._idle = asyncio.Event()

    def retire(self) -> None:
        """No call will be sent any more; `run` returns once the calls under way have ended."""
        self._retired = True
        self._news()

    def _news(self) -> None:
        """Has the writer look; ends a retired link that has no call left."""
        writer = self._writer
        if writer is not None:
            if len(self.calls) > 1:
                writer.news()
            else:  # nothing to wait for that could leave with it
                writer.flush()
        if self._retired and not len(self.calls):
            self._idle.set()

    async def run(self) -> None:
        """Connects, again and again, until the link is retired and has no call under way."""
        while not self._idle.is_set():
            stream = self._connect(self.key.address)
            try:
                error = await self._serve(stream)
                if self.live and not self.calls.draining:
                    self._backoff.reset()  # a worker that is leaving need not be asked so soon whether it is back
                    if not self._retired:
                        log.info("worker lost", worker=self.key.id, address=self.key.address, error=error.message)
                self.live = False
                self.calls.hand_back(error)
            finally:
                await stream.close()
            if self._retired:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(self._backoff.pause()):
                    await self._idle.wait()

    async def _serve(self, stream: ServeStream) -> MeshError:
        """Carries calls until the stream ends or is not needed any more, and returns why."""
        over = self._over = asyncio.get_running_loop().create_future()
        # no group: one that has an error of its own forgets that it was cancelled (before Python 3.13)
        tasks = [
            asyncio.ensure_future(each) for each in (self._read(stream), self._liveness.watch(), self._idle.wait())
        ]
        try:
            await asyncio.wait((over, *tasks), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            if self._writer is not None:
                self._writer.close()
                self._writer = None
        errors = [error for error in (over.result() if over.done() else None, *ended) if isinstance(error, Exception)]
        fault = next((error for error in errors if not isinstance(error, WorkerLost)), None)
        if fault is not None:
            # a fault of ours or nonsense from the worker: other workers' streams must not suffer
            log.error("stream failed", worker=self.key.id, address=self.key.address, exc_info=fault)
            return WorkerLost(f"the stream to the worker at {self.key.address} failed")
        lost = WorkerLost("the worker is not used any more")
        return next((error for error in errors if isinstance(error, WorkerLost)), lost)

    async def _read(self, stream: ServeStream) -> None:
        """Raises why the stream has ended."""
        try:
            async with asyncio.timeout(self._connect_timeout) as patience:
                await stream.run(partial(self._arrived, stream, patience))
        except TimeoutError:
            raise WorkerLost(f"the worker at {self.key.address} did not tell its load in time") from None

    def _arrived(self, stream: ServeStream, patience: asyncio.Timeout, bundle: ResultBundle, large: Large) -> None:
        if self._writer is None:
            self._begin(stream, patience)
        self.calls.receive(bundle, large)
        self._liveness.heard = True
        if self._retired:
            self._news()
        if self.calls.draining and not len(self.calls):
            # all is read; the worker waits for us to go, since we can't tell from its going whether it has said all
            self._end(WorkerLost("the worker is draining"))

    def _begin(self, stream: ServeStream, patience: asyncio.Timeout) -> None:
        """The worker is there: it has told its load."""
        patience.reschedule(None)
        self.live = True
        log.info("worker connected", worker=self.key.id, address=self.key.address)
        self._greeted = False
        self._writer = Writer(self._take, stream.write, self._end)
        self._writer.flush()

    def _end(self, why: Exception) -> None:
        if not self._over.done():
            self._over.set_result(why)

    def _take(self) -> Parcel[WorkBundle] | None:
        if not self._greeted:
            self._greeted = True
            return Parcel(WorkBundle(gateway=self._gateway))
        return self.calls.take() if self.calls.to_write() else None
