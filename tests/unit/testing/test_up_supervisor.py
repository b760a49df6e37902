"""`infermesh up` looks after its services and ends cleanly; stubs stand in for the rooms."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest

from infermesh.cli.up import free_or_any

UP = """
import sys
from pathlib import Path
from rich.console import Console
from infermesh.cli.up import Supervisor
from infermesh.testing import LocalMesh, MeshOptions
options = MeshOptions(package="rooms", environment={"PYTHONPATH": sys.argv[1]})
Supervisor(LocalMesh(Path(sys.argv[1]) / "home", options), Console(width=200), as_json="--json" in sys.argv).run()
"""
SOON = 30.0  # seconds, far more than needed


class Up:
    """A running `up` and what it has shown so far."""

    def __init__(self, stubs, *arguments):
        self._screen = stubs.folder / "screen"
        with self._screen.open("wb") as screen:
            command = [sys.executable, "-c", UP, str(stubs.folder), *arguments]
            # as a shell script starts what it puts into the background
            self.process = subprocess.Popen(["sh", "-c", "trap '' INT; exec \"$@\"", "sh", *command], stdout=screen)
        wait_for(lambda: "gateway" in self.shown())

    def shown(self) -> str:
        return self._screen.read_text()

    def stop(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(SOON)


@pytest.fixture
def up(stubs):
    """Starts `up` on stub rooms and waits until it shows the mesh."""
    started = []

    def start(*arguments):
        started.append(Up(stubs, *arguments))
        return started[-1]

    yield start
    for running in started:
        running.process.kill()
        running.process.wait()


def wait_for(condition) -> None:
    until = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < until, "did not happen"
        time.sleep(0.02)


def pids(stubs) -> dict[str, int]:
    """Process ids by service; one that is just being started again is left out."""
    found = {}
    for path in (stubs.folder / "home" / "run").glob("*.json"):
        with contextlib.suppress(FileNotFoundError):  # a ready file goes away when its service starts again
            if path.stem != "mesh":
                found[path.stem] = json.loads(path.read_text())["pid"]
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_cleanly_with_everything_it_started(up, stubs, number):
    running = up()
    services = pids(stubs)
    assert len(services) == 5
    assert running.stop(number) == 0
    assert stubs.notes("end")[0] == "gateway"
    assert "worker-2" in running.shown()
    assert "Traceback" not in running.shown()
    assert not [name for name, pid in services.items() if psutil.pid_exists(pid)]


def test_a_service_that_dies_is_started_again_where_it_was(up, stubs):
    running = up("--json")
    before = pids(stubs)
    os.kill(before["worker-1"], signal.SIGKILL)
    wait_for(lambda: pids(stubs).get("worker-1", before["worker-1"]) != before["worker-1"])
    assert running.stop(signal.SIGTERM) == 0
    assert "worker-1 ended with -9" in running.shown()
    addresses = json.loads(running.shown()[: running.shown().index("\n}") + 2])
    gateway = addresses["services"]["gateway"]
    assert (addresses["gateway"], addresses["grpc_port"]) == (gateway["grpc"], gateway["grpc_port"])
    assert stubs.arguments("worker-1")["--listen"] == addresses["services"]["worker-1"]["grpc"]


def test_a_taken_port_is_left_to_its_owner():
    with socket.socket() as owner:
        owner.bind(("127.0.0.1", 0))
        owner.listen()
        taken = f"127.0.0.1:{owner.getsockname()[1]}"
        assert free_or_any(taken) == "127.0.0.1:0"
    assert free_or_any(taken) == taken
