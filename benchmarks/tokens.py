"""What a token costs that goes through the mesh, as a ratio to a `grpc.aio` server that sends one message for each.

Usage: python -m benchmarks.tokens [--streams 100] [--tokens 200] [--steps 0.01,0] [--pairs 5] [--rounds 2] [--threads]

Runs a local mesh with an engine that gives every stream a token in each step, and a plain `grpc.aio` server on uvloop
that sends the same bytes at the same pace, and lets the same load (h2load: so many streams at once, and as many more
as they end, for some rounds) run against each in turn (A/B/A/B). CPU is that of all processes of the data path, the
engine's among them. Steps are in seconds; 0 means as fast as it goes: then the gateway is behind, and sends together
what waits of a stream.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc

from benchmarks import h2load
from benchmarks.pairs import Pairs, Run, interleave
from benchmarks.processes import Spent, thread_times
from benchmarks.servers import HERE, System
from infermesh.client import Client
from infermesh.client.inference import encode_request
from infermesh.testing import LocalMesh, MeshOptions
from infermesh.testing.tokens import push_tokens, token_request

METHOD: Final = "/inference.GRPCInferenceService/ModelStreamInfer"
_ALLOWED: Final = {"worker": ["--allow-python"]}


@dataclass(frozen=True)
class Streams:
    """The load: `count` streams at once, of so many tokens each, and so many times that."""

    count: int
    tokens: int
    rounds: int
    body: Path

    def request(self) -> bytes:
        """Returns the request of one stream."""
        return encode_request("tokens", token_request(7, self.tokens)).SerializeToString()

    def answer(self, system: System) -> list[bytes]:
        """Returns the messages of one stream. Raises grpc.RpcError for a system that does not work."""
        with grpc.insecure_channel(system.address) as channel:
            replies = channel.stream_stream(METHOD)(iter([self.request()]), timeout=60, wait_for_ready=True)
            return list(replies)

    def run(self, system: System, rounds: int = 0) -> Run:
        """Loads a system; returns cost and rate of a token. Raises LoadFailed unless every token came."""
        answer = self.answer(system)
        count, size = self.count * (rounds or self.rounds), sum(5 + len(message) for message in answer)
        if len(answer) != self.tokens:
            raise h2load.LoadFailed(f"{system.address}: expected {self.tokens} messages, got {len(answer)}")
        words = ["h2load", "-n", str(count), "-c", "10", "-m", str(self.count // 10), "-d", str(self.body)]
        headers = [word for name, value in h2load.HEADERS.items() for word in ("-H", f"{name}: {value}")]
        before = system.cpu()
        result = h2load.run([*words, *headers, f"http://{system.address}{METHOD}"])
        spent, tokens = system.cpu() - before, count * self.tokens
        if result.failed or abs(result.data - count * size) > 0.1 * size:  # ids and numbers may be a byte longer
            raise h2load.LoadFailed(f"{system.address}: expected {count} times {size} bytes: {result}")
        return Run(1e6 * spent / tokens, result.rate * self.tokens, result.p50 / self.tokens, result.p99 / self.tokens)


@contextmanager
def mesh(folder: Path, steps: list[float], slots: int) -> Iterator[Callable[[float], System]]:
    """Runs a mesh with one worker; the function that comes of it deploys an engine with that step as `tokens`."""
    options = MeshOptions(workers=1, device="cpu", flags=_ALLOWED)
    with LocalMesh(folder / "home", options) as local, Client(local.gateway) as client:
        versions = {step: push_tokens(client, "tokens", step=step, slots=slots) for step in steps}
        pids = {name: local.processes[name].pid for name in ("gateway", "worker-1")}

        def deploy(step: float) -> System:
            client.deploy("tokens", version=versions[step], timeout=60)
            return System(local.grpc_port, pids)

        yield deploy


@contextmanager
def plain(tokens: int, step: float, message: bytes) -> Iterator[System]:
    """Runs the server that sends one message for each token."""
    words = [sys.executable, str(HERE / "token_server.py"), str(tokens), str(step)]
    child = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        child.stdin.write(message)
        child.stdin.close()
        yield System(child.stdout.readline().decode().strip(), {"plain": child.pid})
    finally:
        child.terminate()
        child.wait()
        child.stdout.close()


def describe(step: float, pairs: Pairs) -> str:
    """Returns one row: the mesh's cost and rate of a token over the plain server's."""
    cost, rate = pairs.ratio(lambda r: r.cpu_us), pairs.ratio(lambda r: r.rate)
    return (
        f"step {step * 1e3:g} ms: CPU {cost}, rate {rate}; plain {pairs.base(lambda r: r.cpu_us):.1f} us "
        f"{pairs.base(lambda r: r.rate):.0f}/s, mesh {pairs.other(lambda r: r.cpu_us):.1f} us "
        f"{pairs.other(lambda r: r.rate):.0f}/s{'  noisy' if pairs.noisy else ''}"
    )


def profile(load: Streams, system: System) -> list[str]:
    """Runs once and returns a line for each process and thread that cost something: CPU and wake-ups per token."""
    before = thread_times(system.pids)
    load.run(system)
    came = load.count * load.tokens * load.rounds
    used = {thread: spent - before.get(thread, Spent(0.0, 0)) for thread, spent in thread_times(system.pids).items()}
    processes: dict[str, float] = defaultdict(float)
    for thread, spent in used.items():
        processes[thread.process] += 1e6 * spent.cpu / came
    lines = [f"  {total:8.2f} us              {name}" for name, total in sorted(processes.items())]
    costly = [(thread, spent) for thread, spent in sorted(used.items()) if 1e6 * spent.cpu / came > 0.05]
    return lines + [
        f"  {1e6 * spent.cpu / came:8.2f} us {spent.wakes / came:7.3f} wakes   {thread.process:16s} {thread.name}"
        for thread, spent in costly
    ]


def measure(load: Streams, deploy: Callable[[float], System], step: float, pairs: int) -> tuple[Pairs, System]:
    """Returns the pairs of runs at one pace, and the mesh."""
    other = deploy(step)
    message = statistics.mode(load.answer(other))
    with plain(load.tokens, step, message) as base:
        for system in (base, other):
            load.run(system, 1)  # warm
        return interleave(lambda: load.run(base), lambda: load.run(other), pairs), other


def main() -> None:
    """Runs the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=100)
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--steps", default="0.01,0")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", action="store_true")
    options = parser.parse_args()
    steps = [float(step) for step in options.steps.split(",")]
    with tempfile.TemporaryDirectory() as name:
        load = Streams(options.streams, options.tokens, options.rounds, Path(name) / "body")
        load.body.write_bytes(h2load.frame(load.request()))
        with mesh(Path(name), steps, 2 * options.streams) as deploy:
            for step in steps:
                pairs, system = measure(load, deploy, step, options.pairs)
                print(describe(step, pairs), flush=True)
                if options.threads:
                    print("\n".join(profile(load, system)), flush=True)


if __name__ == "__main__":
    main()
