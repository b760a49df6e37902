"""A child process of a local mesh: start, ready file, log, signals, its end with its parent's. The rooms are stubs."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from infermesh.testing.child import Service, ServiceFailed, ServiceSpec

STUB = """
import json, os, pathlib, signal, subprocess, sys, time
flags = dict(zip(sys.argv[1::2], sys.argv[2::2]))
print("hello from", flags, flush=True)
{body}
path = pathlib.Path(flags["--ready-file"])
addresses = {{"grpc": "127.0.0.1:4711", "health": "127.0.0.1:4712"}}
path.write_text(json.dumps({{"pid": os.getpid(), "addresses": addresses}}))
time.sleep(60)
"""
SOON = 20.0  # seconds, far more than needed


@pytest.fixture
def stub(tmp_path):
    """Returns a function that makes a service of a stub room with a body; kills what it made."""
    services: list[Service] = []

    def make(body: str = "") -> Service:
        package = tmp_path / "rooms"
        package.mkdir(exist_ok=True)
        (package / "stub.py").write_text(STUB.format(body=textwrap.dedent(body)))
        spec = ServiceSpec("stub-1", "stub", ["--x", "1"], package="rooms", environment={"PYTHONPATH": str(tmp_path)})
        services.append(Service(spec, tmp_path / "home"))
        return services[-1]

    yield make
    for service in services:
        service.kill_group()


def deadline() -> float:
    return time.monotonic() + SOON


def test_a_service_is_ready_when_its_ready_file_says_so(stub):
    service = stub()
    service.start()
    service.wait_ready(deadline())
    assert service.running
    assert service.addresses == {"grpc": "127.0.0.1:4711", "health": "127.0.0.1:4712"}
    assert service.returncode is None
    assert "'--x': '1'" in service.tail()
    assert "'--listen': '127.0.0.1:0'" in service.tail()


def test_a_second_life_listens_where_the_first_did(stub):
    service = stub()
    service.start()
    service.wait_ready(deadline())
    service.send(signal.SIGKILL)
    assert service.wait(deadline())
    assert service.returncode == -signal.SIGKILL
    service.start()
    service.wait_ready(deadline())
    assert "'--listen': '127.0.0.1:4711'" in service.tail()
    assert "'--health-listen': '127.0.0.1:4712'" in service.tail()
    assert service.tail().count("hello") == 1, "the log of the first life is not shown as the second's"


def test_a_service_that_ends_while_starting_shows_its_log(stub):
    service = stub("print('the disk is made of cheese'); sys.exit(3)")
    service.start()
    with pytest.raises(ServiceFailed, match=r"(?s)stub-1 ended with 3.*made of cheese"):
        service.wait_ready(deadline())


def test_a_service_that_is_never_ready_shows_its_log(stub):
    service = stub("print('thinking', flush=True); time.sleep(60)")
    service.start()
    with pytest.raises(ServiceFailed, match="not ready in time"):
        service.wait_ready(time.monotonic())
    assert service.running


def test_a_half_written_ready_file_is_not_ready(stub):
    service = stub("pathlib.Path(flags['--ready-file']).write_text('{'); time.sleep(60)")
    service.start()
    with pytest.raises(ServiceFailed, match="not ready in time"):
        service.wait_ready(time.monotonic() + 0.5)


def test_waiting_ends_at_the_deadline(stub):
    service = stub()
    service.start()
    assert not service.wait(time.monotonic())
    assert service.running


def test_killing_the_group_takes_children_along(stub, tmp_path):
    service = stub("""
        child = subprocess.Popen(["sleep", "60"])
        pathlib.Path(flags["--ready-file"] + ".child").write_text(str(child.pid))
    """)
    service.start()
    service.wait_ready(deadline())
    pid = int((tmp_path / "home" / "run" / "stub-1.json.child").read_text())
    service.kill_group()
    assert not service.running
    assert gone(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="bound to the parent's death on Linux only")
def test_a_service_ends_with_its_parent_however_that_dies(tmp_path, stub):
    stub()  # writes the stub room
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert psutil.pid_exists(pid)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert gone(pid)


PARENT = """
import os, sys, time
from pathlib import Path
from infermesh.testing.child import Service, ServiceSpec
tmp = Path(sys.argv[1])
spec = ServiceSpec("stub-2", "stub", package="rooms", environment={"PYTHONPATH": str(tmp)})
service = Service(spec, tmp / "home")
service.start()
service.wait_ready(time.monotonic() + 20)
print(service.pid, flush=True)
time.sleep(60)
"""


def gone(pid: int) -> bool:
    """Waits for the end of a process that is no child of ours (it may stay a zombie of nobody's for a moment)."""
    until = deadline()
    while time.monotonic() < until:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


def test_before_the_start_there_is_no_process(stub):
    service = stub()
    assert not service.running
    assert service.returncode is None
    service.send(signal.SIGTERM)
    service.kill_group()
    with pytest.raises(ServiceFailed, match="was not started"):
        _ = service.pid


def test_the_environment_is_added_to_ours(stub):
    service = stub("print('home is', os.environ['HOME'], flush=True)")
    service.start()
    service.wait_ready(deadline())
    assert f"home is {os.environ['HOME']}" in service.tail()
    assert json.loads((service.log.parent.parent / "run" / "stub-1.json").read_text())["pid"] == service.pid
    assert isinstance(service.log, Path)
