"""Keeps the scheduler informed and the worker as the scheduler wants it: heartbeats out, assignments in.

Level-triggered: every answer carries everything that shall be held, and every heartbeat everything that is. While the
scheduler is away the worker goes on with what it has; if it has just started, with what it held in its last life.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import structlog

from infermesh.errors import InvalidInput, MeshError
from infermesh.mesh.clock import Clock
from infermesh.names import Target, parse, target_of, worker_name
from infermesh.v1 import scheduler_service_pb2, worker_pb2
from infermesh.worker.device import DeviceInfo
from infermesh.worker.holding import Holding
from infermesh.worker.measures import Measures

_INTERVAL: Final = 1.0  # seconds, until the scheduler names another


@dataclass(frozen=True, slots=True)
class Identity:
    """What a worker says of itself that does not change."""

    id: str
    address: str
    incarnation: str
    backends: Sequence[str]
    weight: float = 1.0
    labels: dict[str, str] = field(default_factory=dict)
    memory_limit: int = 0
    """Bytes that models may use; 0: what the device has."""
    bundle_address: str = ""
    """Where gateways bring their bundles."""


class Scheduler(Protocol):
    """Takes heartbeats."""

    async def heartbeat(
        self, request: scheduler_service_pb2.HeartbeatRequest
    ) -> scheduler_service_pb2.HeartbeatResponse:
        """Sends one and returns the answer. Raises MeshError. Cancel-safe."""
        ...


class Memory(Protocol):
    """Remembers from life to life what shall be held."""

    async def assignments(self) -> Sequence[worker_pb2.Assignment]:
        """Returns what was remembered last. Never raises. Cancel-safe."""
        ...

    async def keep(self, assignments: Sequence[worker_pb2.Assignment]) -> None:
        """Remembers. Never raises. Cancel-safe."""
        ...


class Agent:
    """Owns the holdings of a worker. `run` until `stop`; `drain` goes before."""

    def __init__(
        self,
        identity: Identity,
        scheduler: Scheduler,
        hold: Callable[[worker_pb2.Assignment, Callable[[], None]], Holding],
        device: Callable[[], DeviceInfo],
        clock: Clock,
        measures: Measures,
        memory: Memory,
    ) -> None:
        """`hold` builds a holding that reports changes to its second argument; `device` tells the memory as it is."""
        self._identity, self._scheduler, self._hold, self._device = identity, scheduler, hold, device
        self._clock, self._measures, self._memory = clock, measures, memory
        self._holdings: dict[Target, Holding] = {}
        self._lives: dict[Target, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()
        self._draining = False
        self._stopped = False
        self._told = False  # what to hold, by the scheduler or by memory
        self._heard = False  # by the scheduler
        self._recalled = False
        self._settled = asyncio.Event()
        self._interval = _INTERVAL
        self._log = structlog.get_logger(__name__)

    async def run(self) -> None:
        """Sends heartbeats until `stop`: at the scheduler's interval, and at once after a change."""
        failures = 0
        async with asyncio.TaskGroup() as tasks:
            while not self._stopped:
                self._wake.clear()
                reported = self._complete()
                try:
                    answer = await self._scheduler.heartbeat(self._heartbeat())
                except MeshError as error:
                    self._say_away(error, failures)
                    failures += 1
                    await self._recall(tasks)
                    # no longer than between heartbeats: a scheduler that starts anew waits just so long to hear of us
                    await self._rest(min(self._interval, 0.1 * 2.0 ** min(failures, 6)))
                    continue
                failures = 0
                if not self._stopped:
                    await self._take(answer, tasks, reported)
                await self._rest(self._interval)

    async def settled(self) -> None:
        """Returns once this worker was told what to hold, by the scheduler or by memory, and holds it, or failed to.

        A scheduler that told must have heard that it is held: no gateway finds this worker before. One that nobody has
        told anything could do no work for the others: it does not return then.
        """
        await self._settled.wait()

    def _say_away(self, error: MeshError, failures: int) -> None:
        if failures in (0, 10) or failures % 100 == 0:
            self._log.warning("scheduler does not answer", error=error.message, failures=failures)

    async def _rest(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), seconds)

    def drain(self) -> None:
        """Announces that this worker will stop. What it holds is served on; assignments are no longer followed."""
        self._draining = True
        self._wake.set()

    async def stop(self, timeout: float) -> None:
        """Says goodbye, waiting up to `timeout` seconds for the scheduler, and unloads everything; `run` returns."""
        self._draining = self._stopped = True
        goodbye = self._heartbeat()
        goodbye.leaving = True
        with contextlib.suppress(MeshError, TimeoutError):
            await asyncio.wait_for(self._scheduler.heartbeat(goodbye), timeout)
        for holding in self._holdings.values():
            holding.leave()
        if self._lives:
            await asyncio.wait(self._lives.values())
        self._wake.set()

    # --- out -------------------------------------------------------------------------------------------------------

    def _heartbeat(self) -> scheduler_service_pb2.HeartbeatRequest:
        identity = self._identity
        held = [holding.report() for holding in self._holdings.values()]
        counts = Counter(worker_pb2.HeldVersion.State.Name(one.state) for one in held)
        self._measures.held({name: counts[name] for name in ("LOADING", "READY", "FAILED", "UNLOADING")})
        worker = worker_pb2.Worker(
            name=worker_name(identity.id),
            address=identity.address,
            bundle_address=identity.bundle_address,
            incarnation=identity.incarnation,
            device=self._device_now(),
            held=held,
            draining=self._draining,
            weight=identity.weight,
            backends=identity.backends,
            labels=identity.labels,
        )
        return scheduler_service_pb2.HeartbeatRequest(worker=worker)

    def _device_now(self) -> worker_pb2.Device:
        info = self._device()
        total, free = info.memory_total, info.memory_free
        if self._identity.memory_limit:
            total = self._identity.memory_limit
            used = sum(holding.memory_bytes for holding in self._holdings.values())
            free = max(0, min(total - used, free + used))
        self._measures.memory(f"{info.kind}:{info.index}", total, free)
        return worker_pb2.Device(
            kind=info.kind, index=info.index, name=info.name, memory_total_bytes=total, memory_free_bytes=free
        )

    # --- in --------------------------------------------------------------------------------------------------------

    async def _take(
        self, answer: scheduler_service_pb2.HeartbeatResponse, tasks: asyncio.TaskGroup, reported: bool
    ) -> None:
        self._interval = answer.interval.ToTimedelta().total_seconds() or _INTERVAL
        if self._draining:
            return
        if not answer.authoritative:
            await self._recall(tasks)
            return
        self._told = self._heard = True
        self._follow(answer.assignments, tasks)
        if reported and self._complete():
            self._settled.set()
        await self._memory.keep(answer.assignments)

    async def _recall(self, tasks: asyncio.TaskGroup) -> None:
        """Nobody tells what to hold: what was held in the last life is likely to be wanted still."""
        if not (self._told or self._recalled or self._draining):
            self._recalled = True
            assignments = await self._memory.assignments()
            if assignments:
                self._log.info("holding what was held before", assignments=len(assignments))
                self._told = True
                self._follow(assignments, tasks)
        if self._told and not self._heard and self._complete():
            self._settled.set()

    def _complete(self) -> bool:
        return all(holding.settled for holding in self._holdings.values())

    def _follow(self, assignments: Sequence[worker_pb2.Assignment], tasks: asyncio.TaskGroup) -> None:
        """Makes what is held become what is wanted."""
        wanted = dict(self._targets(assignments))
        for target, holding in self._holdings.items():
            if target not in wanted or wanted[target].digest != holding.digest:
                holding.leave()
        for target, assignment in wanted.items():
            known = self._holdings.get(target)
            if known is None:
                self._begin(target, assignment, tasks)
            elif known.digest == assignment.digest:
                known.update(assignment)

    def _targets(self, assignments: Sequence[worker_pb2.Assignment]) -> list[tuple[Target, worker_pb2.Assignment]]:
        found = []
        for assignment in assignments:
            try:
                _, number = parse("models/*/versions/*", assignment.version)
            except InvalidInput as error:
                self._log.error("assignment makes no sense", deployment=assignment.deployment, error=error.message)
                continue
            found.append((target_of(assignment.deployment, number), assignment))
        return found

    def _begin(self, target: Target, assignment: worker_pb2.Assignment, tasks: asyncio.TaskGroup) -> None:
        holding = self._hold(assignment, self._wake.set)
        self._holdings[target] = holding
        self._lives[target] = tasks.create_task(self._live(target, holding))
        self._wake.set()

    async def _live(self, target: Target, holding: Holding) -> None:
        try:
            await holding.live()
        finally:
            del self._holdings[target], self._lives[target]
            self._wake.set()  # what comes under the same name can begin now
