"""A process that has imported everything but the product, and forks into a test run whenever it is told to.

Importing takes longer than most runs do. Started by `Workshop` in its copy of the product; one JSON object a line, in
and out. It has one thread, so a fork is safe.
"""

import importlib
import json
import os
import signal
import sys
import time
import traceback

import pytest

_KNOWN = (
    "google.protobuf",
    "google.rpc.status_pb2",
    "grpc.aio",
    "grpc_status.rpc_status",
    "hypothesis",
    "numpy",
    "opentelemetry.sdk.trace",
    "prometheus_client",
    "pydantic",
    "sqlalchemy",
    "starlette.routing",
    "structlog",
)

_BROKE = 70  # none of pytest's


def _run(arguments: list[str], log: str, seconds: float) -> int | None:
    """Returns the exit status of a test run, or None if it had to be killed."""
    child = os.fork()
    if child == 0:
        os.setsid()
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        for number in (1, 2):
            os.dup2(out, number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        status = _BROKE
        try:
            status = pytest.main(arguments)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def _main() -> None:
    sys.dont_write_bytecode = True
    for name in _KNOWN:
        importlib.import_module(name)
    for line in sys.stdin:
        order = json.loads(line)
        sys.stdout.write(json.dumps(_run(order["arguments"], order["log"], order["seconds"])) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _main()
