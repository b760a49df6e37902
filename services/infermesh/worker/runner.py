"""The worker's handle of a runner process: starts it, sends it batches, notices its end.

Used by the worker room only, inside its event loop. One runner runs one version of one deployment.
"""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from infermesh.errors import LoadFailed, RunnerDied, WorkerLost
from infermesh.mesh.status import from_status
from infermesh.v1 import model_pb2, runner_pb2
from infermesh.worker.frames import Buffer, Output, describe, head, split
from infermesh.worker.link import Link

__all__ = ["Buffer", "LoadReport", "Output", "RunResult", "Runner", "RunnerSpec"]

_GRACE_SECONDS: Final = 2.0
_SOCKET_BYTES: Final = 1 << 20

Emitted = Callable[[Sequence[runner_pb2.Emission], memoryview], None]


@dataclass(frozen=True, slots=True)
class RunnerSpec:
    """What a runner is to hold."""

    version: model_pb2.ModelVersion
    folder: Path
    """Holds the verified files of the version under their paths."""
    device: str = "cpu"
    """`cpu`, `cuda:0`, `mps` or `xpu`."""
    threads: int = 1
    """Most threads that one execution may use; fewer are used where that is as fast."""
    allow_python: bool = False


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What loading told about a version."""

    memory_bytes: int
    batch_times: tuple[tuple[int, float], ...]
    """Rows and the seconds that an execution of so many takes; empty if nothing could be measured."""
    slots: int = 0
    """Most sequences at once, of a decoupled version."""


@dataclass(slots=True)
class RunResult:
    """What an execution gave."""

    outputs: list[Output]
    compute_us: int


class Runner:
    """A runner process that holds one version. Build it with `start`; belongs to the loop that built it."""

    report: LoadReport

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.died: asyncio.Future[str] = loop.create_future()
        """Resolves with a description when the process has ended though nobody closed it; else cancelled by `close`."""
        self.emitted: Emitted = lambda emissions, payload: None
        """Is called with what became of sequences, and the buffers of their outputs."""
        self._loop = loop
        self._pending: deque[tuple[int, asyncio.Future[Any]]] = deque()
        self._last_id = 0
        self._process: asyncio.SubprocessTransport | None = None
        self._exited: asyncio.Future[None] = loop.create_future()
        self._socket: asyncio.Transport | None = None
        self._socket_closed: asyncio.Future[None] = loop.create_future()
        self._closing = False
        self._broken = False  # True once it has said that it will end, and on which batch

    @classmethod
    async def start(cls, spec: RunnerSpec) -> "Runner":
        """Starts a process, which loads the version, does the golden check and warms up.

        Raises LoadFailed with the reason. Cancel-safe: the process is gone afterwards.
        """
        runner = cls(asyncio.get_running_loop())
        try:
            await runner._spawn(spec.threads)
            runner.report = await runner._load(spec)
        except BaseException:
            await asyncio.shield(runner.close())
            raise
        return runner

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process is not None
        return self._process.get_pid()

    def run(self, inputs: Sequence[Buffer], outputs: Sequence[str] = ()) -> asyncio.Future[RunResult]:
        """Sends a batch and returns the future of its result; batches run in the order of the calls.

        `outputs` names the wanted ones, none means all. The future fails with InvalidInput (the model refuses this
        input), ModelFailed (it raised, or gave something else than its signature says), RunnerDied (the process ended
        while it executed this batch) or WorkerLost (it ended before it came to it, or was closed). Cancelling the
        future does not stop the execution.
        """
        command = runner_pb2.RunnerCommand(
            run=runner_pb2.RunCommand(inputs=[describe(buffer) for buffer in inputs], outputs=outputs)
        )
        return cast("asyncio.Future[RunResult]", self._send(command, inputs))

    def begin(self, inputs: Sequence[Buffer], outputs: Sequence[str] = ()) -> int:
        """Begins a sequence of a decoupled version and returns its number. What becomes of it goes to `emitted`.

        Raises WorkerLost if the process has ended. If it ends later, only `died` tells.
        """
        if self._socket is None or self._socket.is_closing():
            raise WorkerLost("the runner process has ended")
        self._last_id += 1
        begin = runner_pb2.RunCommand(inputs=[describe(buffer) for buffer in inputs], outputs=outputs)
        command = runner_pb2.RunnerCommand(id=self._last_id, begin=begin)
        self._socket.writelines([head(command), *(part for buffer in inputs for part in buffer.parts)])
        return self._last_id

    def forget(self, number: int) -> None:
        """Ends a sequence that nobody wants any more; something of it may still come."""
        if self._socket is not None and not self._socket.is_closing():
            self._socket.write(head(runner_pb2.RunnerCommand(cancel=number)))

    async def close(self) -> None:
        """Ends the process and waits for it; its memory is free afterwards. Pending runs fail with WorkerLost.

        May be called again.
        """
        self._closing = True
        self.died.cancel()
        if self._socket is not None:
            self._socket.close()
            await asyncio.shield(self._socket_closed)
        if self._process is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._exited), _GRACE_SECONDS)
            if not self._exited.done():
                self._process.kill()
                await asyncio.shield(self._exited)
            self._process.close()

    async def _spawn(self, threads: int) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            for end in (ours, theirs):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BYTES)
            ours.setblocking(False)
            transport, _ = await self._loop.create_connection(lambda: Link(self._on_reply, self._on_lost), sock=ours)
            self._socket = transport
            fd = theirs.fileno()
            # -P: a file in the working directory must not pose as a module
            command = [sys.executable, "-P", "-X", "faulthandler", "-m", "infermesh.worker.runner_process", str(fd)]
            process, _ = await self._loop.subprocess_exec(
                lambda: _Exit(self._on_exit),
                *command,
                stdin=subprocess.DEVNULL,
                stdout=2,  # what models print must not reach our output
                stderr=None,
                pass_fds=(fd,),
                env=_environment(threads),
            )
            self._process = process

    async def _load(self, spec: RunnerSpec) -> LoadReport:
        command = runner_pb2.LoadCommand(
            version=spec.version,
            folder=str(spec.folder),
            device=spec.device,
            threads=spec.threads,
            allow_python=spec.allow_python,
        )
        try:
            reply: runner_pb2.RunnerReply = await self._send(runner_pb2.RunnerCommand(load=command), ())
        except WorkerLost as error:
            raise LoadFailed(f"the runner process ended while it was loading: {error.message}") from error
        times = tuple((time.rows, time.compute_us / 1e6) for time in reply.batch_times)
        return LoadReport(reply.memory_bytes, times, reply.slots)

    def _send(self, command: runner_pb2.RunnerCommand, buffers: Sequence[Buffer]) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._loop.create_future()
        if self._socket is None or self._socket.is_closing():
            future.set_exception(WorkerLost("the runner process has ended"))
            return future
        self._last_id += 1
        command.id = self._last_id
        self._pending.append((command.id, future))
        self._socket.writelines([head(command), *(part for buffer in buffers for part in buffer.parts)])
        return future

    def _on_reply(self, reply: runner_pb2.RunnerReply, payload: memoryview) -> None:
        if reply.emissions:
            self.emitted(reply.emissions, payload)
            return
        expected, future = self._pending.popleft()
        assert reply.id == expected
        if future.done():
            return  # its caller went away
        if reply.HasField("error"):
            error = from_status(reply.error)
            self._broken |= isinstance(error, RunnerDied)
            future.set_exception(error)
        elif reply.outputs:
            buffers = split(reply.outputs, payload)
            outputs = [
                Output(spec.name, spec.datatype, tuple(spec.shape), data)
                for spec, data in zip(reply.outputs, buffers, strict=True)
            ]
            future.set_result(RunResult(outputs, reply.compute_us))
        else:
            future.set_result(reply)

    def _on_lost(self) -> None:
        if not self._socket_closed.done():
            self._socket_closed.set_result(None)
        if self._process is None or self._exited.done():
            self._end()

    def _on_exit(self) -> None:
        if not self._exited.done():
            self._exited.set_result(None)
        if self._socket_closed.done():
            self._end()

    def _end(self) -> None:
        """Both the socket and the process have ended: nothing more can come."""
        text = "it was closed" if self._closing else self._describe_end()
        while self._pending:
            _, future = self._pending.popleft()
            if not future.done():
                future.set_exception(self._loss(text))
        if not self.died.done():
            self.died.set_result(text)

    def _loss(self, text: str) -> WorkerLost:
        """Returns the error of the next run that was not answered: the first one was being executed."""
        if self._closing or self._broken:
            return WorkerLost(f"the runner process ended: {text}")
        self._broken = True
        return RunnerDied(f"the runner process ended: {text}", metadata={"ended": text})

    def _describe_end(self) -> str:
        status = self._process.get_returncode() if self._process is not None else None
        if status is None:
            return "its socket broke"
        if status < 0:
            return f"killed by {signal.Signals(-status).name}"
        return f"exit status {status}"


class _Exit(asyncio.SubprocessProtocol):
    """Tells when a process has ended."""

    def __init__(self, on_exit: Any) -> None:
        self._on_exit = on_exit

    def process_exited(self) -> None:
        """Called by the loop."""
        self._on_exit()


def _environment(threads: int) -> dict[str, str]:
    """Returns our environment with the thread pools of the numeric libraries limited before they are imported."""
    count = str(max(1, threads))
    limits = {"OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count, "OPENBLAS_NUM_THREADS": count}
    # Threads of a model that sleep between two of its operators take up to twice as long for a small batch, and a tenth
    # more for a large one; those that spin for as long as they do unasked (12 ms) are busy long after it. This is 5 ms.
    return {"GOMP_SPINCOUNT": "100000", **os.environ, **limits}
