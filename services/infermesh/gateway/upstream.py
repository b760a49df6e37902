"""One worker as the gateway sees it: its stream, kept open, and the calls that are on it. Used by the fleet."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Final, Protocol

import structlog
from google.protobuf.message import DecodeError

from infermesh.errors import Internal, MeshError, WorkerLost
from infermesh.gateway.admission import Limits
from infermesh.gateway.pending import Pending
from infermesh.gateway.streams import Connect, ServeStream
from infermesh.gateway.targets import Lane, TargetState
from infermesh.mesh.status import from_status
from infermesh.v1.worker_service_pb2 import ResultBundle, ResultItem, TargetLoad, WorkBundle, WorkItem

_FIRST_BACKOFF: Final = 0.05
_LAST_BACKOFF: Final = 2.0

log = structlog.get_logger(__name__)


class Sink(Protocol):
    """Hears what happens on links. The dispatcher. None of these blocks or raises."""

    def returned(self, pending: Pending, worker: str, error: MeshError, not_started: bool) -> None:
        """A call came back from `worker` without an answer; it is at no worker any more."""
        ...

    def freed(self, target: TargetState) -> None:
        """There may be credit for calls that wait."""
        ...

    def changed(self, target: TargetState) -> None:
        """A lane of the target came to life or died."""
        ...


@dataclass(frozen=True, slots=True)
class WorkerKey:
    """One life of one worker process. `id` alone is not enough: a restarted worker knows nothing of earlier calls."""

    id: str
    address: str
    incarnation: str


class Link:
    """Keeps one stream to a worker open, for as long as `run` runs.

    Everything but `run` is synchronous and belongs to the event loop: what is sent within one turn of the loop, or
    while an earlier bundle is still being written, leaves in one bundle; there is no timer. `live` is True from the
    worker's first bundle on until the stream breaks; `draining` once the worker has said that it stops.
    """

    def __init__(
        self, key: WorkerKey, *, gateway: str, connect: Connect, sink: Sink, limits: Limits, rng: Random
    ) -> None:
        self.key = key
        self.weight = 1.0
        self.live = False
        self.draining = False
        self._gateway = gateway
        self._connect = connect
        self._sink = sink
        self._limits = limits
        self._rng = rng
        self._lanes: dict[str, Lane] = {}
        self._in_flight: dict[int, Pending] = {}
        self._last_id = 0
        self._outbox: list[Pending] = []
        self._cancels: list[int] = []
        self._wake: asyncio.Future[None] | None = None
        self._retired = False
        self._idle: asyncio.Event = asyncio.Event()

    # -- what the dispatcher calls ---------------------------------------------------------------------------------

    def lane(self, target: str) -> Lane:
        """Returns the lane of a target, which begins without credit."""
        lane = self._lanes.get(target)
        if lane is None:
            lane = self._lanes[target] = Lane(worker=self.key.id, link=self, target=target, weight=self.weight)
        return lane

    def set_weight(self, weight: float) -> None:
        """Sets the worker's share under the `weighted` policy."""
        self.weight = weight
        for lane in self._lanes.values():
            lane.weight = weight

    def send(self, lane: Lane, pending: Pending) -> None:
        """Puts a call on its way; `lane` is one of this link's and has credit."""
        self._last_id = number = self._last_id + 1
        pending.id = number
        pending.lane = lane
        pending.sent = False
        lane.in_flight += 1
        self._in_flight[number] = pending
        self._outbox.append(pending)
        if self._wake is not None:
            self._wake_writer()

    def cancel(self, pending: Pending) -> None:
        """Takes a call back. Its lane has room for another at once: the worker is told of this before the other."""
        lane = pending.lane
        if lane is None or self._in_flight.pop(pending.id, None) is None:
            return
        pending.lane = None
        lane.in_flight -= 1
        if pending.sent:
            self._cancels.append(pending.id)
            self._wake_writer()
        self._check_idle()

    def retire(self) -> None:
        """No call will be sent any more; `run` returns once the calls under way have ended."""
        self._retired = True
        self._check_idle()

    def in_flight(self) -> int:
        """Returns the calls under way."""
        return len(self._in_flight)

    # -- the life of the stream ------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Connects, again and again, until the link is retired and has no call under way."""
        backoff = _FIRST_BACKOFF
        while not self._idle.is_set():
            stream = self._connect(self.key.address)
            try:
                error = await self._serve(stream)
                if self.live and not self._retired:
                    log.info("worker lost", worker=self.key.id, address=self.key.address, error=error.message)
                backoff = _FIRST_BACKOFF if self.live else min(_LAST_BACKOFF, backoff * 1.6)
                self._break(error)
            finally:
                await stream.close()
            if self._retired:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(backoff * (0.5 + self._rng.random())):
                    await self._idle.wait()

    def stop(self) -> list[Pending]:
        """Gives up every call that is still under way and returns them; after `run` was cancelled."""
        self.close_lanes()
        left, self._in_flight = self._in_flight, {}
        for pending in left.values():
            pending.lane = None
        return list(left.values())

    async def _serve(self, stream: ServeStream) -> MeshError:
        """Carries calls until the stream ends or is not needed any more, and returns why."""
        error: MeshError = WorkerLost("the worker is not used any more")
        try:
            async with asyncio.TaskGroup() as tasks:
                reader = tasks.create_task(self._read(stream))
                others = [tasks.create_task(self._write(stream)), tasks.create_task(self._idle.wait())]
                await asyncio.wait((reader, others[1]), return_when=asyncio.FIRST_COMPLETED)
                for task in (reader, *others):
                    task.cancel()
        except* Exception:
            # a fault of ours or nonsense from the worker: other workers' streams must not suffer
            log.exception("stream failed", worker=self.key.id, address=self.key.address)
            error = WorkerLost(f"the stream to the worker at {self.key.address} failed")
        else:
            if not reader.cancelled():
                error = reader.result()
        return error

    async def _read(self, stream: ServeStream) -> MeshError:
        try:
            async with asyncio.timeout(self._limits.connect_timeout):
                first = await stream.read()
            self.live = True
            log.info("worker connected", worker=self.key.id, address=self.key.address)
            self._receive(first)
            while True:
                self._receive(await stream.read())
        except WorkerLost as error:
            return error
        except TimeoutError:
            return WorkerLost(f"the worker at {self.key.address} did not tell its load in time")

    async def _write(self, stream: ServeStream) -> None:
        try:
            await stream.write(WorkBundle(gateway=self._gateway))
            while True:
                while self._outbox or self._cancels:
                    await stream.write(self._bundle())
                self._wake = asyncio.get_running_loop().create_future()
                await self._wake
        except WorkerLost:
            return  # the reader notices, too, and says why
        finally:
            self._wake = None

    def _wake_writer(self) -> None:
        wake, self._wake = self._wake, None
        if wake is not None and not wake.done():
            wake.set_result(None)

    def _bundle(self) -> WorkBundle:
        """Takes what is to be sent now, up to a size, cancels first: they make room for the rest."""
        bundle = WorkBundle()
        add = bundle.items.add
        for number in self._cancels:
            add(id=number, kind=WorkItem.CANCEL)
        self._cancels.clear()
        now = asyncio.get_running_loop().time()
        size, taken = 0, 0
        for pending in self._outbox:
            taken += 1
            if pending.lane is None or self._in_flight.get(pending.id) is not pending:
                continue  # withdrawn before it left
            fill(add(), pending, now)
            size += len(pending.call.payload)
            if size >= self._limits.bundle_bytes:
                break
        del self._outbox[:taken]
        return bundle

    # -- what comes from the worker --------------------------------------------------------------------------------

    def _receive(self, bundle: ResultBundle) -> None:
        """Answers calls, then takes the loads, then sends again what came back, then sends what waits: in this order,
        so that a worker that has just lost a model is not tried again with what it has handed back."""
        freed: dict[TargetState, None] = {}
        returned: list[tuple[Pending, ResultItem]] = []
        in_flight = self._in_flight
        for item in bundle.results:
            number = item.id
            pending = in_flight.get(number)
            if pending is None:
                continue  # withdrawn meanwhile
            payload, final = item.payload, item.final
            failed = not payload and item.HasField("error")
            if final or failed:
                del in_flight[number]
                self._leave(pending, freed)
            if failed:
                returned.append((pending, item))
            else:
                pending.deliver(payload, final, item.queue_us, item.compute_us)
        for load in bundle.loads:
            self._take_load(load, freed)
        if bundle.draining and not self.draining:
            self._drain()
        for pending, item in returned:
            self._sink.returned(pending, self.key.id, error_of(item), item.not_started)
        for target in freed:
            self._sink.freed(target)
        if self._retired:
            self._check_idle()

    @staticmethod
    def _leave(pending: Pending, freed: dict[TargetState, None]) -> None:
        lane = pending.lane
        if lane is not None:
            pending.lane = None
            lane.in_flight -= 1
            if lane.home is not None and lane.home.queue:
                freed[lane.home] = None

    def _take_load(self, load: TargetLoad, freed: dict[TargetState, None]) -> None:
        lane = self.lane(load.target)
        if self.draining:
            return
        changed, home = lane.update(load), lane.home
        if home is None:
            return
        if changed:
            self._sink.changed(home)
        if home.queue:
            freed[home] = None

    def _drain(self) -> None:
        log.info("worker draining", worker=self.key.id)
        self.draining = True
        self.close_lanes()

    def close_lanes(self) -> None:
        """Lets no call be sent here until the worker tells its loads anew."""
        for lane in self._lanes.values():
            if lane.close() and lane.home is not None:
                self._sink.changed(lane.home)

    def _break(self, error: MeshError) -> None:
        """Hands back every call that was on a stream that has ended."""
        self.live = self.draining = False
        self.close_lanes()
        lost, self._in_flight, self._outbox = self._in_flight, {}, []
        self._cancels.clear()
        for lane in self._lanes.values():
            lane.in_flight = 0
        for pending in lost.values():
            pending.lane = None
            self._sink.returned(pending, self.key.id, error, not pending.sent)
        self._check_idle()

    def _check_idle(self) -> None:
        if self._retired and not self._in_flight:
            self._idle.set()


def error_of(item: ResultItem) -> MeshError:
    """Returns the error in a result; Internal if what the worker sent can't be read."""
    try:
        return from_status(item.error)
    except DecodeError:
        return Internal(f"a worker sent an error that can't be read (code {item.error.code})")


def fill(item: WorkItem, pending: Pending, now: float) -> None:
    """Writes a call into a new item of a bundle. Absent things are not written: setting a field has a price."""
    call = pending.call
    pending.sent = True
    pending.attempts += 1
    item.id = pending.id
    item.kind = pending.kind
    item.target = pending.lane.target if pending.lane is not None else ""
    item.payload = call.payload
    if call.deadline is not None:
        item.timeout_us = max(1, int((call.deadline - now) * 1e6))
    if call.priority:
        item.priority = call.priority
    if pending.trace is not None:
        item.traceparent, item.tracestate = pending.trace
    elif call.traceparent:
        item.traceparent = call.traceparent
        item.tracestate = call.tracestate
