"""The row about a model that takes its time: how much of what it does alone is left through the whole mesh."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks import h2load, models
from benchmarks.calls import METHOD, Calls
from benchmarks.pairs import Pairs, Run, interleave
from benchmarks.rows import Row
from benchmarks.servers import System
from benchmarks.settings import Settings

IN_FLIGHT: Final = 256  # four batches: one that runs, one that waits at the worker, and two on their way
WARM: Final = 1.5  # seconds until answers come as evenly as they will


class Bare:
    """The model alone in a loop, in a process of its own; it rests while nothing is asked."""

    def __init__(self, file: Path, threads: int) -> None:
        words = [sys.executable, "-m", "benchmarks.bare", str(file), str(threads)]
        self._child = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.best = self._line()

    def run(self, seconds: float) -> Run:
        """Runs it for that long."""
        assert self._child.stdin is not None
        self._child.stdin.write(f"{seconds}\n")
        self._child.stdin.flush()
        rate = float(self._line())
        return Run(1e6 / rate, rate, 0.0, 0.0)

    def _line(self) -> str:
        assert self._child.stdout is not None
        line = self._child.stdout.readline().strip()
        if not line:
            raise RuntimeError(f"the model's bare loop ended with {self._child.wait()}")
        return line

    def close(self) -> None:
        """Ends the process."""
        self._child.communicate()


@contextmanager
def bare(file: Path) -> Iterator[Bare]:
    """Gives the model alone, with a thread for each core, as a worker with one model has it."""
    loop = Bare(file, os.cpu_count() or 1)
    try:
        yield loop
    finally:
        loop.close()


def encoder(folder: Path, other: System, settings: Settings) -> Iterator[Row]:
    """Yields the row of the encoder; `other` serves it, from the file `encoder.pt2` in the folder."""
    served = models.encoder()
    body = folder / "encoder-call"
    answer = Calls(body, served.request()).answer(other)
    served.check(answer)
    seconds = settings.seconds
    words = h2load.command(f"http://{other.address}{METHOD}", IN_FLIGHT, seconds, body, h2load.HEADERS)

    def through_the_mesh() -> Run:
        result = h2load.run([*words[:1], f"--warm-up-time={WARM * 1000:.0f}ms", *words[1:]])
        if result.failed or result.data < 0.9 * result.calls * (5 + len(answer)):
            raise h2load.LoadFailed(f"{other.address}: not every call was answered: {result}")
        # by Little's law: answers come a batch at a time, of which a run has five or six, so that their count would be
        # off by a fifth
        return Run(0.0, IN_FLIGHT / result.mean, result.p50, result.p99, result.calls)

    with bare(folder / "encoder.pt2") as loop:
        # the machine's own speed drifts by a third within a minute: many short pairs
        pairs = interleave(lambda: loop.run(seconds), through_the_mesh, 2 * settings.pairs)
        yield _row(pairs, loop.best)


def _row(pairs: Pairs, best: str) -> Row:
    ratio = pairs.ratio(lambda run: run.rate)
    bare_rate, mesh_rate = pairs.base(lambda run: run.rate), pairs.other(lambda run: run.rate)
    note = f"alone, in {best}: {bare_rate:.0f} rows/s; mesh {mesh_rate:.0f} rows/s"
    return Row(
        "encoder-share", ratio.median, 0.95, False, ratio.low, ratio.high, unit="%", noisy=pairs.noisy, note=note
    )
