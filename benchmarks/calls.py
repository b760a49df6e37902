"""The same inference call again and again, closed loop, against any system that answers it."""

import sys
from functools import cache
from pathlib import Path
from typing import Final

import grpc

from benchmarks import h2load
from benchmarks.pairs import Run
from benchmarks.servers import System
from infermesh.loadgen import children
from infermesh.loadgen.arrivals import Arrivals
from infermesh.loadgen.plan import Plan
from infermesh.loadgen.recording import OK, percentiles

METHOD: Final = "/inference.GRPCInferenceService/ModelInfer"


class Calls:
    """A load of one message; `body` is the file that it is written to, for h2load."""

    def __init__(self, body: Path, message: bytes) -> None:
        body.write_bytes(h2load.frame(message))
        self._body = body
        self._message = message

    def answer(self, system: System) -> bytes:
        """Returns the answer to one call by gRPC. Raises grpc.RpcError, for a system that does not work."""
        with grpc.insecure_channel(system.address, options=[("grpc.max_receive_message_length", -1)]) as channel:
            reply: bytes = channel.unary_unary(METHOD)(self._message, timeout=30, wait_for_ready=True)
        return reply

    def run(self, system: System, in_flight: int, seconds: float) -> Run:
        """Loads a system and returns what it cost. Raises LoadFailed if a call failed."""
        size = 5 + len(self.answer(system))
        before = system.cpu()
        result = self._load(system.address, in_flight, seconds, size)
        spent = system.cpu() - before
        answered = result.data // size
        if result.failed or abs(answered - result.calls) > in_flight:  # those cut off at the end may be half there
            raise h2load.LoadFailed(f"{system.address}: {result.calls} calls, {answered} answers: {result}")
        return Run(1e6 * spent / result.calls, result.rate, result.p50, result.p99, result.calls)

    def _load(self, address: str, in_flight: int, seconds: float, size: int) -> h2load.Result:
        if h2load.installed():
            url = f"http://{address}{METHOD}"
            return h2load.run(h2load.command(url, in_flight, seconds, self._body, h2load.HEADERS))
        _say_once(h2load.INSTALL)
        connections, _ = h2load.spread(in_flight)
        plan = Plan(address, [self._message], Arrivals.closed, 0.0, seconds, in_flight, connections)
        recording = children.run(plan)
        calls = recording.ends()[OK]
        if not calls:
            raise h2load.LoadFailed(f"{address}: no call was answered: {dict(recording.ends())}")
        took = recording.latencies()
        p50, p99 = percentiles(took, (50, 99))
        failed = recording.ends().total() - calls
        return h2load.Result(
            calls, failed, calls * size, calls / recording.elapsed, p50, p99, took.get_mean_value() / 1e6
        )


@cache
def _say_once(text: str) -> None:
    print(f"{text}\nUntil then a client in Python makes the load; it takes much of the cores itself.", file=sys.stderr)
