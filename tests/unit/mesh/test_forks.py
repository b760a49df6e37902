"""gRPC's fork handlers stay out of the processes that start others."""

import subprocess
import sys

import pytest

SPAWN = """
import asyncio, os
{before}
import grpc.aio

async def main():
    server = grpc.aio.server()
    server.add_insecure_port("127.0.0.1:0")
    await server.start()
    if not os.fork():
        os._exit(0)
    os.wait()
    await server.stop(None)

asyncio.run(main())
"""
DISABLE = "from infermesh.mesh.forks import disable_grpc_handlers; disable_grpc_handlers()"


@pytest.mark.parametrize(("before", "handled"), [("", True), (DISABLE, False)])
def test_grpc_handles_forks_only_where_it_is_not_told_otherwise(before, handled):
    command = [sys.executable, "-W", "ignore", "-c", SPAWN.format(before=before)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert ("fork() handlers" in done.stderr) == handled


@pytest.mark.parametrize("room", ["worker", "gateway"])
def test_a_room_that_starts_processes_says_so_before_it_imports_grpc(room):
    look = "import sys, infermesh.mesh.forks; print('grpc' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    look = f"import sys, infermesh.{room}; print('grpc' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False", "python -m imports the package before its __main__"
