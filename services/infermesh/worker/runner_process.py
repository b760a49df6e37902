"""The runner process: holds one version and executes batches for its worker, one after the other.

Started by `runner.py` as `python -m infermesh.worker.runner_process FD`; FD is its end of a socket pair. It ends when
the other end is closed, whatever else happens to the worker.
"""

import ctypes
import gc
import signal
import socket
import sys
from typing import Final

import structlog

from infermesh.errors import InvalidInput, LoadFailed, MeshError, ModelFailed, RunnerDied
from infermesh.mesh import heap, log
from infermesh.mesh.extensions import Table
from infermesh.v1 import runner_pb2
from infermesh.worker.backends import table
from infermesh.worker.backends.base import Backend, RunnerBroken
from infermesh.worker.execution import Execution, describe
from infermesh.worker.frames import describe_output, encode_error, split
from infermesh.worker.pipe import Pipe
from infermesh.worker.stepping import Stepping

_PR_SET_PDEATHSIG: Final = 1
_logger = structlog.get_logger(__name__)


class Server:
    """Answers the commands of one worker."""

    def __init__(self, pipe: Pipe, backends: Table[type[Backend]]) -> None:
        self._pipe = pipe
        self._backends = backends
        self._execution: Execution | None = None
        self._stepping: Stepping | None = None

    def serve(self) -> None:
        """Returns when the worker is gone. Raises RunnerBroken, after telling the worker."""
        while True:
            while self._stepping is not None and self._stepping.busy and not self._pipe.waiting():
                self._step(self._stepping)
            received = self._pipe.receive()
            if received is None:
                return
            self._obey(*received)

    def _obey(self, command: runner_pb2.RunnerCommand, payload: memoryview) -> None:
        kind = command.WhichOneof("command")
        try:
            if kind == "run":
                self._run(command, payload)
            elif kind == "load":
                self._load(command)
            elif self._stepping is None:
                raise RunnerBroken("no decoupled version is loaded")
            elif kind == "begin":
                self._begin(self._stepping, command, payload)
            else:
                self._stepping.cancel(command.cancel)
        except RunnerBroken as error:
            if kind in ("run", "load"):
                died = RunnerDied(error.message, metadata={"ended": "broken"})
                self._fail(command.id, died if kind == "run" else ModelFailed(error.message))
            raise
        except MeshError as error:
            self._fail(command.id, error)
        except Exception as error:  # the boundary: one command's failure must not end the others
            _logger.exception("runner.command_failed")
            failure = LoadFailed if kind == "load" else ModelFailed
            self._fail(command.id, failure(describe(error)))

    def _load(self, command: runner_pb2.RunnerCommand) -> None:
        if command.load.version.decoupled:
            self._stepping, loaded = Stepping.load(command.load, self._backends)
        else:
            self._execution, loaded = Execution.load(command.load, self._backends)
        times = [
            runner_pb2.BatchTime(rows=rows, compute_us=max(1, round(seconds * 1e6)))
            for rows, seconds in loaded.batch_times
        ]
        # what loading left behind stays: without this, every full collection would walk through all of torch
        gc.collect()
        gc.freeze()
        report = runner_pb2.RunnerReply(
            id=command.id, memory_bytes=loaded.memory_bytes, batch_times=times, slots=loaded.slots
        )
        self._pipe.send(report)

    def _run(self, command: runner_pb2.RunnerCommand, payload: memoryview) -> None:
        if self._execution is None:
            raise ModelFailed("no version is loaded")
        specs = command.run.inputs
        outputs, taken = self._execution.run(specs, split(specs, payload), command.run.outputs)
        described = [describe_output(output) for output in outputs]
        reply = runner_pb2.RunnerReply(id=command.id, outputs=described, compute_us=taken)
        self._pipe.send(reply, [output.data for output in outputs])

    def _begin(self, stepping: Stepping, command: runner_pb2.RunnerCommand, payload: memoryview) -> None:
        """Begins a sequence; if that fails, the sequence ends with the error: the command itself has no reply."""
        try:
            stepping.begin(command.id, command.begin, payload)
        except MeshError as error:
            _note(error)
            ended = runner_pb2.Emission(sequences=[command.id], finished=[command.id], error=encode_error(error))
            self._pipe.send(runner_pb2.RunnerReply(emissions=[ended]))
            if isinstance(error, RunnerBroken):
                raise

    def _step(self, stepping: Stepping) -> None:
        told = stepping.step()
        if told:
            reply = runner_pb2.RunnerReply(emissions=[emission for emission, _ in told])
            self._pipe.send(reply, [data for _, buffers in told for data in buffers])

    def _fail(self, command_id: int, error: MeshError) -> None:
        _note(error)
        self._pipe.send(runner_pb2.RunnerReply(id=command_id, error=encode_error(error)))


def _note(error: MeshError) -> None:
    if not isinstance(error, InvalidInput):  # those are the caller's affair, and may be many
        _logger.warning("runner.model_failed", error=error.message, exc_info=error.__cause__ or error)


def _die_with_parent() -> None:
    """Asks Linux to kill this process when its parent ends, for when a model never comes back from a call.

    Elsewhere the end of the socket does it, after the execution that is under way.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def main(fd: int) -> int:
    """Serves on the socket `fd` until the worker is gone; returns the exit status."""
    _die_with_parent()
    heap.keep_freed()
    # the worker decides when a runner ends: signals to its whole process group must not cut executions
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    log.configure("runner", "info")
    with socket.socket(fileno=fd) as sock:
        try:
            Server(Pipe(sock), table()).serve()
        except RunnerBroken as error:
            _logger.error("runner.broken", error=error.message)
            return 1
        except (ConnectionError, BrokenPipeError):
            return 0  # the worker went away while it was being answered
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
