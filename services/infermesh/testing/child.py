"""One service of a local mesh: a child process with a log, a ready file, and a death bound to its parent's."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from infermesh.errors import FailedPrecondition
from infermesh.testing.serving import is_serving

_POLL: Final = 0.02  # seconds between two looks at a child
_PROBE: Final = 0.1  # seconds between two questions to its health service
_BESIDE: Final = {
    "health": "--health-listen",
    "metrics": "--metrics-listen",
    "bundles": "--bundle-listen",
    "grpc_port": "--grpc-listen",
}
"""Flags of the addresses that a service has beside its own."""

# Runs in the child before the service: when the parent dies, however it dies, the child gets SIGTERM and drains.
# It takes the place of preexec_fn, which may deadlock in a parent with threads (gRPC has some). The parent is compared
# afterwards because it may have died before the request to be told. Linux only; elsewhere orphans are stopped by hand.
_LAUNCHER: Final = """
import os, signal, sys
if sys.platform == "linux":
    import ctypes
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
    if os.getppid() != int(sys.argv[1]):
        os._exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


class ServiceFailed(FailedPrecondition):
    """A service did not start; its text shows what it logged last."""

    reason = "SERVICE_FAILED"

    @property
    def log_tail(self) -> str:
        """The last lines of its log."""
        return self.metadata.get("log_tail", "")

    def __str__(self) -> str:
        return "\n".join(text for text in (self.message, self.log_tail) if text)


@dataclass(frozen=True)
class ServiceSpec:
    """What to run: `python -m {package}.{room}` with `arguments`, known to the mesh as `name`."""

    name: str
    room: str
    arguments: Sequence[str] = ()
    listen: str = "127.0.0.1:0"
    package: str = "infermesh"
    environment: Mapping[str, str] = field(default_factory=dict)


class Service:
    """A running service, bound to the thread that started it: when that thread ends, the child is told to stop."""

    def __init__(self, spec: ServiceSpec, home: Path) -> None:
        self.spec = spec
        self.log = home / "logs" / f"{spec.name}.log"
        self._ready_file = home / "run" / f"{spec.name}.json"
        self._child: subprocess.Popen[bytes] | None = None
        self._log_start = 0
        self.addresses: dict[str, str] = {}

    @property
    def pid(self) -> int:
        """The process id; raises ServiceFailed before `start`."""
        if self._child is None:
            raise ServiceFailed(f"{self.spec.name} was not started")
        return self._child.pid

    @property
    def returncode(self) -> int | None:
        """Exit code, negative for a signal; None while it runs or was never started."""
        return self._child.poll() if self._child else None

    @property
    def running(self) -> bool:
        """True while the process lives."""
        return self._child is not None and self._child.poll() is None

    def start(self) -> None:
        """Starts the process and returns at once. What it listened on in an earlier life it is given again."""
        for folder in (self.log.parent, self._ready_file.parent):
            folder.mkdir(parents=True, exist_ok=True)
        self._ready_file.unlink(missing_ok=True)
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), *self._command()]
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                launcher,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.spec.environment},
                start_new_session=True,  # Ctrl-C in a terminal reaches the parent only, which then stops all in order
            )

    def _command(self) -> list[str]:
        command = [sys.executable, "-m", f"{self.spec.package}.{self.spec.room}", *self.spec.arguments]
        command += ["--listen", self.addresses.get("grpc", self.spec.listen)]
        for kind, flag in _BESIDE.items():
            if kind in self.addresses:
                command += [flag, self.addresses[kind]]
        return [*command, "--ready-file", str(self._ready_file)]

    def wait_ready(self, deadline: float) -> None:
        """Waits for the ready file. Raises ServiceFailed if the process ends or `deadline` (monotonic) passes."""
        while not self._read_ready_file():
            if not self.running:
                raise ServiceFailed(
                    f"{self.spec.name} ended with {self.returncode} while starting", metadata={"log_tail": self.tail()}
                )
            if time.monotonic() > deadline:
                raise ServiceFailed(f"{self.spec.name} was not ready in time", metadata={"log_tail": self.tail()})
            time.sleep(_POLL)

    def wait_serving(self, deadline: float) -> None:
        """Waits until the process says SERVING. Raises ServiceFailed if it ends or `deadline` (monotonic) passes."""
        while not is_serving(self.addresses["health"]):
            if not self.running:
                raise ServiceFailed(f"{self.spec.name} has ended", metadata={"log_tail": self.tail()})
            if time.monotonic() > deadline:
                raise ServiceFailed(f"{self.spec.name} does not serve", metadata={"log_tail": self.tail()})
            time.sleep(_PROBE)

    def _read_ready_file(self) -> bool:
        try:
            ready = json.loads(self._ready_file.read_text())
        except (FileNotFoundError, json.JSONDecodeError):  # half-written counts as not yet there
            return False
        self.addresses = dict(ready["addresses"])
        return True

    def send(self, number: int) -> None:
        """Sends a signal to the process alone, if it still runs."""
        if self.running:
            os.kill(self.pid, number)

    def wait(self, deadline: float) -> bool:
        """Waits for the end of the process; returns False if `deadline` (monotonic) passes first."""
        while self.running:
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL)
        return True

    def kill_group(self) -> None:
        """Kills what is left of the session that the service leads: itself and children that it left behind."""
        if self._child is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait()

    def tail(self, lines: int = 20) -> str:
        """Returns the last lines that this life of the service logged, with the log's path."""
        try:
            with self.log.open("rb") as log:
                log.seek(self._log_start)
                text = log.read().decode(errors="replace")
        except FileNotFoundError:
            text = ""
        return "\n".join([f"--- {self.log}", *text.splitlines()[-lines:]])
