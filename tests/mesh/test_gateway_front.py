"""The front door as real processes: supervisor, Envoy, and an app on our framing. gRPC's own client is the judge."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.mesh.interop_messages import message

pytestmark = pytest.mark.mesh
_ROOT = Path(__file__).resolve().parents[2]
_CASES = (
    "empty_unary",
    "large_unary",
    "client_streaming",
    "server_streaming",
    "ping_pong",
    "empty_stream",
    "timeout_on_sleeping_server",
    "cancel_after_begin",
    "cancel_after_first_response",
    "status_code_and_message",
    "special_status_message",
    "custom_metadata",
    "unimplemented_method",
    "unimplemented_service",
    "rpc_soak",
)


class Gateway:
    """A gateway process with the interop app in it."""

    def __init__(self, folder: Path, *flags: str) -> None:
        self.ready_file = folder / "ready.json"
        command = [sys.executable, "-m", "tests.mesh.interop_app", "--ready-file", str(self.ready_file), *flags]
        self.stderr = (folder / "stderr").open("w+")
        self.process = subprocess.Popen(command, cwd=_ROOT, stderr=self.stderr)

    def wait_ready(self) -> str:
        """Returns the public address."""
        while self.process.poll() is None:
            if self.ready_file.exists():
                address: str = json.loads(self.ready_file.read_text())["addresses"]["grpc"]
                return address
            time.sleep(0.02)
        raise AssertionError(self.log())

    def log(self) -> str:
        """Returns what it has written to standard error."""
        self.stderr.flush()
        return Path(self.stderr.name).read_text()

    def close(self) -> None:
        """Ends it, whatever it does."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.stderr.close()


@contextlib.contextmanager
def gateway(folder: Path, *flags: str) -> Iterator[Gateway]:
    """Runs a gateway process."""
    running = Gateway(folder, *flags)
    try:
        yield running
    finally:
        running.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a gateway that the tests share."""
    with gateway(tmp_path_factory.mktemp("front")) as running:
        yield running.wait_ready()


@pytest.fixture(scope="module")
def interop_client() -> str:
    """Path of gRPC's interop client."""
    found = shutil.which("grpc-interop-client") or _unpacked()
    if not found:
        pytest.skip("grpc-interop-client is not on this machine (PATH, INFERMESH_TOOLS)")
    return found


def _unpacked() -> str:
    get = Path(os.environ.get("INFERMESH_TOOLS", _ROOT.parent / "shared" / "tools")) / "get"
    if not get.exists():
        return ""
    done = subprocess.run([get, "grpc-interop-client"], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


@pytest.mark.parametrize("case", _CASES)
def test_grpc_interop(shared: str, interop_client: str, case: str) -> None:
    host, _, port = shared.rpartition(":")
    command = [interop_client, f"--server_host={host}", f"--server_port={port}", f"--test_case={case}"]
    if case == "rpc_soak":
        command += ["--soak_iterations=200", "--soak_max_failures=0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
