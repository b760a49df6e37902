"""The life of one assignment on this worker: fetch, verify, load, serve, recover, unload. Used by the agent."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

from infermesh import errors
from infermesh.errors import LoadFailed, MeshError, RunnerDied, WorkerLost
from infermesh.mesh.clock import Clock
from infermesh.names import Target, parse, target_of
from infermesh.v1 import model_pb2, worker_pb2
from infermesh.worker.artifacts import ArtifactCache
from infermesh.worker.measures import Measures
from infermesh.worker.models import HeldModel
from infermesh.worker.runner import Runner, RunnerSpec
from infermesh.worker.serving import Serving
from infermesh.worker.source import Source
from infermesh.worker.turns import Turns

State = worker_pb2.HeldVersion
_LONGEST_WAIT: Final = 30.0  # seconds between attempts
_STEADY: Final = 60.0  # seconds after which a runner that dies counts as one that was well
_RESPAWNS: Final = 5  # loads that may fail in a row for a version that was ready before
_STRUGGLES: Final = 7  # attempts, half a minute of them, after which nobody should wait for a version to be loaded
_DAMAGES: Final = 3  # downloads with a wrong digest before the version is given up
# nothing that we repeat would change these
_PERMANENT: Final = (errors.InvalidInput, errors.NotFound, errors.FailedPrecondition, errors.Unsupported)


@dataclass(frozen=True, slots=True)
class Tools:
    """What a holding works with; shared by all of a worker."""

    source: Source
    cache: ArtifactCache
    serving: Serving
    measures: Measures
    clock: Clock
    start: Callable[[RunnerSpec], Awaitable[Runner]]
    loads: asyncio.Semaphore
    """Bounds how many versions are loaded at the same time."""
    spec: Callable[[model_pb2.ModelVersion, Path], RunnerSpec]
    """Makes a runner's spec for this worker's device and threads."""
    unload_timeout: float
    turns: Turns = field(default_factory=Turns)
    """Bounds how many versions execute at the same time."""


class Holding:
    """One version of one deployment, from its assignment until it is unloaded. `changed` is told of every new state."""

    def __init__(self, assignment: worker_pb2.Assignment, tools: Tools, changed: Callable[[], None]) -> None:
        _, number = parse("models/*/versions/*", assignment.version)
        self.target: Target = target_of(assignment.deployment, number)
        self.digest = assignment.digest
        self._assignment, self._tools, self._changed = assignment, tools, changed
        self._number = number
        self._state, self._reason = State.LOADING, ""
        self._memory_bytes, self._load_seconds = 0, 0.0
        self._attempts = 0
        self._model: HeldModel | None = None
        self._leave = asyncio.Event()
        self._log = structlog.get_logger(__name__).bind(target=self.target, version=assignment.version)

    def report(self) -> worker_pb2.HeldVersion:
        """Returns what the heartbeat says of it."""
        return worker_pb2.HeldVersion(
            deployment=self._assignment.deployment,
            version=self._number,
            digest=self.digest,
            state=self._state,
            reason=self._reason,
            memory_bytes=self._memory_bytes,
            load_seconds=self._load_seconds,
            quarantined=0 if self._model is None else self._model.suspicion.quarantined,
        )

    @property
    def state(self) -> worker_pb2.HeldVersion.State:
        """What it is doing."""
        return self._state

    @property
    def settled(self) -> bool:
        """True unless it may soon be ready: it is, or it has failed, or every attempt for half a minute did."""
        return self._state != State.LOADING or self._attempts >= _STRUGGLES

    @property
    def memory_bytes(self) -> int:
        """Memory that it takes; 0 while unknown."""
        return self._memory_bytes

    def update(self, assignment: worker_pb2.Assignment) -> None:
        """Takes a changed assignment of the same digest: its batching."""
        if assignment.batching != self._assignment.batching and self._model is not None:
            self._model.set_batching(assignment.batching)
        self._assignment = assignment

    def leave(self) -> None:
        """Begins the end: calls under way are finished, then `live` returns."""
        self._leave.set()

    async def live(self) -> None:
        """Holds the version until `leave`; returns once its memory is given back. Cancelled, it cuts calls short."""
        keeping = asyncio.create_task(self._keep())
        try:
            await self._leave.wait()
            self._set(State.UNLOADING)
            if self._model is not None:
                self._model.retire()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._model.until_idle(), self._tools.unload_timeout)
        finally:
            keeping.cancel()
            await asyncio.wait({keeping})
            if self._model is not None:
                self._tools.serving.remove(self._model)
            self._log.info("unloaded")

    def _set(self, state: worker_pb2.HeldVersion.State, reason: str = "") -> None:
        self._state, self._reason = state, reason
        self._changed()

    # --- until it fails for good -----------------------------------------------------------------------------------

    async def _keep(self) -> None:
        """Loads and serves; transient trouble is tried again, anything else ends in FAILED."""
        damages = 0
        while True:
            try:
                await self._attempt()
            except _PERMANENT as error:
                self._fail(error.message)
                return
            except (MeshError, OSError) as error:
                damages += isinstance(error, errors.DataLoss)
                if damages >= _DAMAGES:
                    self._fail(str(error))
                    return
                self._log.warning("not loaded yet", error=str(error), attempt=self._attempts)
                await self._tools.clock.sleep(_wait(self._attempts))
                self._attempts += 1
            except Exception as error:
                self._log.error("load failed", exc_info=error)
                self._fail("internal error; the worker's log says more")
                return

    def _fail(self, reason: str) -> None:
        self._log.warning("failed", reason=reason)
        self._set(State.FAILED, reason)

    async def _attempt(self) -> None:
        async with self._tools.loads:
            began = self._tools.clock.time()
            version = await self._tools.source.version(self._assignment.version, self.digest)
            if version.digest != self.digest:
                raise LoadFailed(f"version: expected digest {self.digest}, the registry has {version.digest}")
            async with contextlib.AsyncExitStack() as stack:
                folder = await stack.enter_async_context(self._tools.cache.folder(version, self._tools.source.download))
                runner = await self._tools.start(self._tools.spec(version, folder))
                stack.push_async_callback(runner.close)
                # from here on it no longer counts as loading
                kept = stack.pop_all()
        async with kept:
            self._take_up(version, runner, began)
            await self._serve(version, folder, runner)

    def _take_up(self, version: model_pb2.ModelVersion, runner: Runner, began: float) -> None:
        measures = self._tools.measures.of(self._assignment.deployment, self._number)
        self._model = HeldModel(
            self._assignment.deployment,
            self._number,
            version,
            self._tools.clock,
            measures,
            self._tools.serving.changed,
            turns=self._tools.turns,
        )
        self._model.set_batching(self._assignment.batching)
        self._load_seconds = self._tools.clock.time() - began
        measures.load.add(self._load_seconds)
        self._tools.serving.add(self._model)

    # --- while it is held ------------------------------------------------------------------------------------------

    async def _serve(self, version: model_pb2.ModelVersion, folder: Path, runner: Runner | None) -> None:
        """Serves with one runner after another. Raises LoadFailed once that does not work any more."""
        failures = 0
        while True:
            if runner is not None:
                began = self._tools.clock.time()
                await self._serve_with(runner)
                failures = 0 if self._tools.clock.time() - began > _STEADY else failures + 1
            await self._tools.clock.sleep(_wait(failures - 1) if failures else 0.0)
            try:
                async with self._tools.loads:
                    runner = await self._tools.start(self._tools.spec(version, folder))
            except LoadFailed as error:
                runner, failures = None, failures + 1
                self._log.warning("runner did not come back", error=error.message, failures=failures)
                if failures >= _RESPAWNS:
                    raise

    async def _serve_with(self, runner: Runner) -> None:
        """Serves until the runner dies. The runner is closed in any case."""
        assert self._model is not None
        lost = WorkerLost(f"version '{self.target}': its runner was stopped", retry_after=1.0)
        try:
            self._memory_bytes = runner.report.memory_bytes
            self._model.attach(runner)
            if not self._leave.is_set():
                self._log.info("ready", seconds=round(self._load_seconds, 3), memory_bytes=self._memory_bytes)
                self._set(State.READY)
            await asyncio.wait({runner.died})  # a plain await would cancel the future together with us
            ended = runner.died.result()
            text = f"version '{self.target}': its runner died: {ended}"
            lost = RunnerDied(text, metadata={"ended": ended}, retry_after=1.0)
            self._log.error("runner died", reason=ended)
            self._model.count_death()
            if not self._leave.is_set():
                self._set(State.LOADING)
        finally:
            self._model.detach(lost)
            await runner.close()


def _wait(attempt: int) -> float:
    return min(_LONGEST_WAIT, 0.25 * 2.0 ** min(attempt, 10))
