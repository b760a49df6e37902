"""What a call through the mesh costs, as a ratio to an empty `grpc.aio` server in the same run.

Usage: python -m benchmarks.cost [--in-flight 1,64,256] [--pairs 5] [--seconds 2] [--workers 1] [--threads]
                                 [--model mlp|tensor|encoder] [--front]

Starts an echo server and a local mesh that serves a model (mlp: 64-128-10, calls of 300 bytes; tensor: 600 KB in and
out), and lets the same load (h2load, with a deadline and trace context) run against each in turn (A/B/A/B). CPU is that
of all processes of the data path: gateway, Envoy, worker and runner; the load generator's does not count. Printed are
medians of the pairs' ratios with their range; a row is marked noisy when the echo's own cost moved by more than 20 %.
--threads adds where it went: CPU and wake-ups per call of each thread of the mesh. --front calls through the port of
all protocols, with Envoy between, instead of that for gRPC alone.
"""

import argparse
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Final

from benchmarks import models
from benchmarks.calls import Calls
from benchmarks.pairs import Pairs, interleave
from benchmarks.processes import Spent, Thread, thread_times
from benchmarks.servers import System, echo, mesh
from benchmarks.settings import Settings

MODELS: Final = {"mlp": models.mlp, "tensor": models.tensor, "encoder": models.encoder}


def describe(in_flight: int, pairs: Pairs) -> str:
    """Returns one row: the mesh's cost, rate and median latency over the echo's."""
    cost, rate, p50 = (pairs.ratio(what) for what in (lambda r: r.cpu_us, lambda r: r.rate, lambda r: r.p50))
    added = (pairs.other(lambda r: r.p50) - pairs.base(lambda r: r.p50)) * 1e6
    return (
        f"{in_flight:4d} in flight: CPU {cost}, rate {rate}, p50 {p50}; echo {pairs.base(lambda r: r.cpu_us):.0f} us "
        f"{pairs.base(lambda r: r.rate):.0f}/s, mesh {pairs.other(lambda r: r.cpu_us):.0f} us "
        f"{pairs.other(lambda r: r.rate):.0f}/s, p50 {added:+.0f} us{'  noisy' if pairs.noisy else ''}"
    )


def compare(calls: Calls, base: System, other: System, in_flight: int, settings: Settings) -> Pairs:
    """Returns pairs of runs against both systems, which are warm then."""
    for system in (base, other):
        calls.run(system, in_flight, 0.5)
    return interleave(
        lambda: calls.run(base, in_flight, settings.seconds),
        lambda: calls.run(other, in_flight, settings.seconds),
        settings.pairs,
    )


def profile(calls: Calls, system: System, in_flight: int, seconds: float) -> list[str]:
    """Runs once and returns a line for each thread that cost something: CPU microseconds and wake-ups per call."""
    before = thread_times(system.pids)
    count = calls.run(system, in_flight, seconds).calls
    after = thread_times(system.pids)
    used = {thread: spent - before.get(thread, Spent(0.0, 0)) for thread, spent in after.items()}
    processes: dict[str, float] = defaultdict(float)
    for thread, spent in used.items():
        processes[thread.process] += 1e6 * spent.cpu / count
    lines = [f"  {total:8.1f} us             {name}" for name, total in sorted(processes.items())]
    return [*lines, *(_thread(thread, spent, count) for thread, spent in sorted(used.items()) if _counts(spent, count))]


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
    parser.add_argument("--model", choices=MODELS, default="mlp")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", action="store_true")
    parser.add_argument("--front", action="store_true")
    options = parser.parse_args()
    settings = Settings(options.pairs, options.seconds)
    served = MODELS[options.model]()
    with tempfile.TemporaryDirectory() as name, echo() as base, mesh(Path(name), served, options.workers) as made:
        other = made.through_front() if options.front else made
        calls = Calls(Path(name) / "body", served.request())
        served.check(calls.answer(other))
        for in_flight in map(int, options.in_flight.split(",")):
            print(describe(in_flight, compare(calls, base, other, in_flight, settings)), flush=True)
            if options.threads:
                print("\n".join(profile(calls, other, in_flight, options.seconds)), flush=True)


if __name__ == "__main__":
    main()
