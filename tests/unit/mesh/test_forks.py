"""gRPC's fork handlers stay out of the processes that start others."""

import os
import subprocess
import sys

import pytest

from infermesh.mesh.forks import disable_grpc_handlers


def test_the_setting_is_made_and_an_operators_stands(monkeypatch):
    monkeypatch.setenv("GRPC_ENABLE_FORK_SUPPORT", "1")
    disable_grpc_handlers()
    assert os.environ["GRPC_ENABLE_FORK_SUPPORT"] == "1"
    monkeypatch.delenv("GRPC_ENABLE_FORK_SUPPORT")
    disable_grpc_handlers()
    assert os.environ["GRPC_ENABLE_FORK_SUPPORT"] == "false"


@pytest.mark.parametrize("room", ["worker", "gateway"])
def test_a_room_that_starts_processes_says_so_before_it_imports_grpc(room):
    look = "import sys, infermesh.mesh.forks; print('grpc' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    look = f"import sys, infermesh.{room}; print('grpc' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False", "python -m imports the package before its __main__"
