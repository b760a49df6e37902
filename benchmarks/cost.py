"""What a call through the mesh costs, as a ratio to an empty `grpc.aio` server in the same run.

Usage: python -m benchmarks.cost [--pairs 5] [--seconds 2] [--in-flight 1,64,256]

Starts an echo server and a local mesh that serves a 64-128-10 MLP, and lets the same load run against each in turn
(A/B/A/B). CPU is that of all server processes; the load generator's does not count. Printed are medians of the
pairs' ratios with their range; a row is marked noisy when the echo's own cost moved by more than 20 %.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import torch

from infermesh.client import Client
from infermesh.oip.v2 import grpc_service_pb2 as oip
from infermesh.testing import LocalMesh, MeshOptions
from infermesh.v1 import model_pb2, tensor_pb2

HERE = Path(__file__).parent
METHOD = "/inference.GRPCInferenceService/ModelInfer"


@dataclass(frozen=True)
class System:
    """A server under load: where it listens and how many CPU seconds its processes have used."""

    address: str
    cpu: Callable[[], float]


@dataclass(frozen=True)
class Run:
    """One run: CPU microseconds per call, calls per second, seconds."""

    cpu_us: float
    rate: float
    p50: float
    p99: float


def cpu_seconds(pids: list[int]) -> float:
    """Returns the CPU time of processes and all their descendants, in seconds."""
    total = 0.0
    for pid in pids:
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            times = process.cpu_times()
            total += times.user + times.system
    return total


@contextmanager
def echo() -> Iterator[System]:
    """Runs the echo server."""
    child = subprocess.Popen(
        [sys.executable, str(HERE / "echo_server.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    try:
        yield System(child.stdout.readline().strip(), lambda: cpu_seconds([child.pid]))
    finally:
        child.communicate()


@contextmanager
def mesh(folder: Path) -> Iterator[System]:
    """Runs a mesh with one worker that serves the MLP as deployment `mlp`."""
    export(folder / "model.pt2")
    signature = model_pb2.Signature(
        inputs=[tensor_pb2.TensorSpec(name="x", datatype="FP32", shape=[-1, 64])],
        outputs=[tensor_pb2.TensorSpec(name="logits", datatype="FP32", shape=[-1, 10])],
    )
    with LocalMesh(folder / "home", MeshOptions(workers=1)) as local, Client(local.gateway) as client:
        client.push("mlp", folder / "model.pt2", signature=signature, max_batch_size=128)
        client.deploy("mlp", version="1", timeout=120)
        pids = [local.processes["gateway"].pid, local.processes["worker-1"].pid]
        yield System(local.gateway, lambda: cpu_seconds(pids))


def export(path: Path) -> None:
    """Writes the MLP that the figures are about."""

    class Mlp(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10))

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"logits": self.layers(x)}

    batch = torch.export.Dim("batch", min=1, max=1024)
    program = torch.export.export(Mlp().eval(), (torch.zeros(2, 64),), dynamic_shapes={"x": {0: batch}})
    torch.export.save(program, path)


def request() -> bytes:
    """Returns a call of about 300 bytes."""
    message = oip.ModelInferRequest(model_name="mlp", raw_input_contents=[np.ones(64, np.float32).tobytes()])
    message.inputs.add(name="x", datatype="FP32", shape=[1, 64])
    return message.SerializeToString()


def measure(system: System, in_flight: int, seconds: float) -> Run:
    """Loads a system and returns what it cost. Raises RuntimeError if a call failed."""
    before = system.cpu()
    command = [sys.executable, str(HERE / "load.py"), system.address, METHOD, str(in_flight), str(seconds)]
    result = json.loads(subprocess.run(command, input=request(), stdout=subprocess.PIPE, check=True).stdout)
    if result["failed"]:
        raise RuntimeError(f"{result['failed']} of {result['calls']} calls failed at {system.address}")
    spent = system.cpu() - before
    return Run(1e6 * spent / result["calls"], result["calls"] / result["seconds"], result["p50"], result["p99"])


def compare(base: System, other: System, in_flight: int, pairs: int, seconds: float) -> None:
    """Prints one row: the other's cost, rate and median latency over the base's."""
    runs = [(measure(base, in_flight, seconds), measure(other, in_flight, seconds)) for _ in range(pairs)]
    cost = [b.cpu_us / a.cpu_us for a, b in runs]
    rate = [b.rate / a.rate for a, b in runs]
    p50 = [b.p50 / a.p50 for a, b in runs]
    own = [a.cpu_us for a, _ in runs]
    noisy = "  noisy" if max(own) > 1.2 * min(own) else ""
    spent, calls = (statistics.median(getattr(b, name) for _, b in runs) for name in ("cpu_us", "rate"))
    print(
        f"{in_flight:4d} in flight: CPU {statistics.median(cost):.2f}x ({min(cost):.2f}-{max(cost):.2f}), "
        f"rate {statistics.median(rate):.2f}x, p50 {statistics.median(p50):.2f}x; "
        f"echo {statistics.median(own):.0f} us, mesh {spent:.0f} us, {calls:.0f}/s{noisy}",
        flush=True,
    )


def main() -> None:
    """Runs the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--in-flight", default="1,64,256")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, echo() as base, mesh(Path(folder)) as other:
        for in_flight in map(int, options.in_flight.split(",")):
            measure(other, in_flight, 0.5)  # warm both
            compare(base, other, in_flight, options.pairs, options.seconds)


if __name__ == "__main__":
    main()
