"""The worker's handle of a runner process: starts it, sends it batches, notices its end.

Used by the worker room only, inside its event loop. One runner runs one version of one deployment.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from infermesh.v1 import model_pb2
from infermesh.worker.frames import Buffer, Output

__all__ = ["Buffer", "LoadReport", "Output", "RunResult", "Runner", "RunnerSpec"]


@dataclass(frozen=True, slots=True)
class RunnerSpec:
    """What a runner is to hold."""

    version: model_pb2.ModelVersion
    folder: Path
    """Holds the verified files of the version under their paths."""
    device: str = "cpu"
    """`cpu`, `cuda:0`, `mps` or `xpu`."""
    threads: int = 1
    """Most threads that one execution may use; fewer are used where that is faster."""
    allow_python: bool = False


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What loading told about a version."""

    memory_bytes: int
    batch_times: tuple[tuple[int, float], ...]
    """Rows and the seconds that an execution of so many takes; empty if nothing could be measured."""


@dataclass(slots=True)
class RunResult:
    """What an execution gave."""

    outputs: list[Output]
    compute_us: int


class Runner:
    """A runner process that holds one version. Build it with `start`; not safe to use from another loop."""

    def __init__(self, report: LoadReport, died: asyncio.Future[str]) -> None:
        self.report = report
        self.died = died

    @classmethod
    async def start(cls, spec: RunnerSpec) -> "Runner":
        """Starts a process, which loads the version, does the golden check and warms up.

        Raises LoadFailed with the reason. Cancel-safe: the process is gone afterwards.
        """
        raise NotImplementedError

    def run(self, inputs: Sequence[Buffer], outputs: Sequence[str] = ()) -> asyncio.Future[RunResult]:
        """Sends a batch and returns the future of its result; batches run in the order of the calls.

        `outputs` names the wanted ones, none means all. The future fails with InvalidInput (the model refuses this
        input), ModelFailed (it raised, or gave something else than its signature says) or WorkerLost (the process
        ended). Cancelling the future does not stop the execution.
        """
        raise NotImplementedError

    async def close(self) -> None:
        """Ends the process and waits for it; its memory is free afterwards. Pending runs fail with WorkerLost."""
        raise NotImplementedError
