"""What a call through the mesh costs, as a ratio to an empty `grpc.aio` server in the same run.

Usage: python -m benchmarks.cost [--in-flight 1,64,256] [--pairs 5] [--seconds 2] [--workers 1] [--threads]

Starts an echo server and a local mesh that serves a 64-128-10 MLP, and lets the same load (h2load, 300-byte calls
with a deadline and trace context) run against each in turn (A/B/A/B). CPU is that of all processes of the data path:
gateway, Envoy, worker and runner; the load generator's does not count. Printed are medians of the pairs' ratios with
their range; a row is marked noisy when the echo's own cost moved by more than 20 %. --threads adds where it went:
CPU and wake-ups per call of each thread of the mesh.
"""

import argparse
import tempfile
from collections import defaultdict
from pathlib import Path

import grpc
import numpy as np

from benchmarks import h2load, models
from benchmarks.pairs import Pairs, Run, interleave
from benchmarks.processes import Spent, Thread, thread_times
from benchmarks.servers import System, echo, mesh

METHOD = "/inference.GRPCInferenceService/ModelInfer"


class Load:
    """The same call again and again, closed loop."""

    def __init__(self, folder: Path, message: bytes, seconds: float) -> None:
        self._body = folder / "body"
        self._body.write_bytes(h2load.frame(message))
        self._message = message
        self._seconds = seconds

    def answer(self, system: System) -> bytes:
        """Returns the answer to one call by gRPC. Raises grpc.RpcError, for a system that does not work."""
        with grpc.insecure_channel(system.address, options=[("grpc.max_receive_message_length", -1)]) as channel:
            reply: bytes = channel.unary_unary(METHOD)(self._message, timeout=30, wait_for_ready=True)
        return reply

    def run(self, system: System, in_flight: int, seconds: float = 0.0) -> tuple[Run, int]:
        """Loads a system; returns what it cost and the number of calls. Raises LoadFailed if one failed."""
        size = 5 + len(self.answer(system))
        url = f"http://{system.address}{METHOD}"
        before = system.cpu()
        result = h2load.run(h2load.command(url, in_flight, seconds or self._seconds, self._body, h2load.HEADERS))
        spent = system.cpu() - before
        answered = result.data // size
        if result.failed or abs(answered - result.calls) > in_flight:  # those cut off at the end may be half there
            raise h2load.LoadFailed(f"{system.address}: {result.calls} calls, {answered} answers: {result}")
        return Run(1e6 * spent / result.calls, result.rate, result.p50, result.p99), result.calls


def describe(in_flight: int, pairs: Pairs) -> str:
    """Returns one row: the mesh's cost, rate and median latency over the echo's."""
    cost, rate, p50 = (pairs.ratio(what) for what in (lambda r: r.cpu_us, lambda r: r.rate, lambda r: r.p50))
    added = (pairs.other(lambda r: r.p50) - pairs.base(lambda r: r.p50)) * 1e6
    return (
        f"{in_flight:4d} in flight: CPU {cost}, rate {rate}, p50 {p50}; echo {pairs.base(lambda r: r.cpu_us):.0f} us "
        f"{pairs.base(lambda r: r.rate):.0f}/s, mesh {pairs.other(lambda r: r.cpu_us):.0f} us "
        f"{pairs.other(lambda r: r.rate):.0f}/s, p50 {added:+.0f} us{'  noisy' if pairs.noisy else ''}"
    )


def profile(load: Load, system: System, in_flight: int) -> list[str]:
    """Runs once and returns a line for each thread that cost something: CPU microseconds and wake-ups per call."""
    before = thread_times(system.pids)
    _, calls = load.run(system, in_flight)
    after = thread_times(system.pids)
    used = {thread: spent - before.get(thread, Spent(0.0, 0)) for thread, spent in after.items()}
    processes: dict[str, float] = defaultdict(float)
    for thread, spent in used.items():
        processes[thread.process] += 1e6 * spent.cpu / calls
    lines = [f"  {total:8.1f} us             {name}" for name, total in sorted(processes.items())]
    return [*lines, *(_thread(thread, spent, calls) for thread, spent in sorted(used.items()) if _counts(spent, calls))]


def _counts(spent: Spent, calls: int) -> bool:
    return 1e6 * spent.cpu / calls > 0.3 or spent.wakes / calls > 0.01


def _thread(thread: Thread, spent: Spent, calls: int) -> str:
    cost = f"{1e6 * spent.cpu / calls:8.1f} us {spent.wakes / calls:6.2f} wakes"
    return f"  {cost}   {thread.process:18s} {thread.name} {thread.id}"


def main() -> None:
    """Runs the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--in-flight", default="1,64,256")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        load = Load(Path(name), models.call("mlp", np.ones((1, 64), np.float32)), options.seconds)
        with echo() as base, mesh(Path(name), options.workers) as other:
            for in_flight in map(int, options.in_flight.split(",")):
                for system in (base, other):
                    load.run(system, in_flight, 0.5)  # warm
                first, second = (lambda s=s, n=in_flight: load.run(s, n)[0] for s in (base, other))
                print(describe(in_flight, interleave(first, second, options.pairs)), flush=True)
                if options.threads:
                    print("\n".join(profile(load, other, in_flight)), flush=True)


if __name__ == "__main__":
    main()
