"""Runs a plan, in this process or spread over several: one event loop makes some thousands of calls a second.

The processes talk in lines of JSON. A child reads its share, connects, says that it is ready, and is told the time at
which all of them begin: clocks that count from the machine's start are the same in every process.
"""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final, TextIO

import uvloop
from google.rpc import status_pb2

from infermesh.errors import Internal, MeshError
from infermesh.loadgen.caller import Caller
from infermesh.loadgen.extras import library
from infermesh.loadgen.plan import Plan
from infermesh.loadgen.recording import Recording
from infermesh.loadgen.runner import Runner
from infermesh.loadgen.timer import PreciseClock
from infermesh.mesh.status import from_status, to_status

_SOON: Final = 0.1  # seconds between "all are ready" and the first call
_OPEN: Final = 30.0  # seconds to connect and be answered once


def run(plan: Plan, processes: int = 1) -> Recording:
    """Runs a plan and returns what became of its calls. Blocks. Raises MissingExtra, and what the first call raises."""
    library("hdrh.histogram")
    shares = plan.split(processes)
    if len(shares) == 1:
        return run_share(shares[0], lambda: time.monotonic() + _SOON)
    with ExitStack() as stack:
        children = [stack.enter_context(_Child(share)) for share in shares]
        for child in children:
            child.ready()
        start = time.monotonic() + _SOON
        for child in children:
            child.begin(start)
        total = Recording.of(plan.duration, plan.slo)
        for child in children:
            total.add(child.result())
    return total


def run_share(plan: Plan, start: Callable[[], float]) -> Recording:
    """Runs a plan in this process; `start` is asked, when all is ready, for the monotonic time of the first call."""

    async def main() -> Recording:
        clock = PreciseClock()
        caller = Caller(plan.address, plan.messages, plan.connections)
        try:
            await caller.open(_OPEN)
            first = start()
            before = _cpu()
            recording = await Runner(plan, caller, clock).run(first)
            recording.cpu = _cpu() - before
            return recording
        finally:
            await caller.close()
            clock.close()

    return uvloop.run(main())


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def child(stdin: TextIO, stdout: TextIO) -> None:
    """Runs one share on behalf of the process at the other end."""

    def say(kind: str, value: str) -> None:
        stdout.write(json.dumps([kind, value]) + "\n")
        stdout.flush()

    def ready() -> float:
        say("ready", "")
        return float(stdin.readline())

    try:
        recording = run_share(Plan.from_json(stdin.readline()), ready)
    except MeshError as error:
        say("error", to_status(error).SerializeToString().hex())
    else:
        say("done", recording.to_json())


class _Child:
    """A process that runs one share. Ends with the block."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def __enter__(self) -> "_Child":
        command = [sys.executable, "-m", "infermesh.loadgen"]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # an interrupt in a terminal reaches the parent only, which ends the others
        )
        self._write(self._plan.to_json())
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()

    def ready(self) -> None:
        """Waits until it has connected. Raises the error of its first call."""
        self._read("ready")

    def begin(self, start: float) -> None:
        """Tells it when the first call is due, as monotonic time."""
        self._write(repr(start))

    def result(self) -> Recording:
        """Waits for the end."""
        recording = Recording.from_json(self._read("done"))
        self._process.wait()
        return recording

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _read(self, wanted: str) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise Internal(f"a process of the load test ended with {self._process.wait()}")
        kind, value = json.loads(line)
        if kind == "error":
            raise from_status(status_pb2.Status.FromString(bytes.fromhex(value)))
        assert kind == wanted, f"expected {wanted}, got {kind}"
        return str(value)
