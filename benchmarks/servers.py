"""The systems under load, each started here on a free port."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.models import Served
from benchmarks.processes import cpu_seconds
from infermesh.client import Client
from infermesh.testing import LocalMesh, MeshOptions

HERE: Final = Path(__file__).parent


@dataclass(frozen=True)
class System:
    """A system under load: where it listens, and the processes that make it up, by name."""

    address: str
    pids: Mapping[str, int]

    def cpu(self) -> float:
        """Returns the CPU seconds that its processes and their descendants have used."""
        return cpu_seconds(self.pids.values())


@dataclass(frozen=True)
class Mesh(System):
    """A mesh; `address` is the gateway's port for gRPC alone."""

    front: str
    """Address of the port for all protocols, with Envoy between."""

    def through_front(self) -> System:
        """Returns the same mesh, called through that port."""
        return System(self.front, self.pids)


@contextmanager
def echo() -> Iterator[System]:
    """Runs the echo server."""
    child = subprocess.Popen(
        [sys.executable, str(HERE / "echo_server.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    try:
        yield System(child.stdout.readline().strip(), {"echo": child.pid})
    finally:
        child.communicate()


@contextmanager
def mesh(folder: Path, served: Served, workers: int = 1) -> Iterator[Mesh]:
    """Runs a mesh that serves a model on CPUs; only its data path counts as the system."""
    file = folder / f"{served.name}.pt2"
    served.export(file)
    options = MeshOptions(workers=workers, device="cpu")
    with LocalMesh(folder / f"{served.name}-home", options) as local, Client(local.gateway) as client:
        client.push(served.name, file, signature=served.signature(), max_batch_size=served.max_batch_size)
        client.deploy(served.name, version="1", replicas=workers, timeout=120)
        names = ["gateway", *(f"worker-{number}" for number in range(1, workers + 1))]
        yield Mesh(local.grpc_port, {name: local.processes[name].pid for name in names}, local.gateway)
