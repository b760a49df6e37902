"""A closed loop of unary calls in a process of its own, so that its work never counts as a server's.

Usage: load.py ADDRESS METHOD IN_FLIGHT SECONDS < request      prints JSON: calls, failed, seconds, latencies in seconds
"""

import asyncio
import json
import sys
import time

import grpc
import uvloop


async def _run(address: str, method: str, in_flight: int, seconds: float, request: bytes) -> dict[str, object]:
    latencies: list[float] = []
    failed = 0
    async with grpc.aio.insecure_channel(address, options=[("grpc.max_receive_message_length", -1)]) as channel:
        call = channel.unary_unary(method)
        await call(request, wait_for_ready=True, timeout=30)
        began = time.perf_counter()

        async def loop() -> None:
            nonlocal failed
            while (start := time.perf_counter()) < began + seconds:
                try:
                    await call(request, timeout=30)
                except grpc.aio.AioRpcError:
                    failed += 1
                latencies.append(time.perf_counter() - start)

        await asyncio.gather(*(loop() for _ in range(in_flight)))
        took = time.perf_counter() - began
    latencies.sort()
    at = {name: latencies[int(len(latencies) * share)] for name, share in (("p50", 0.5), ("p99", 0.99))}
    return {"calls": len(latencies), "failed": failed, "seconds": took, **at}


if __name__ == "__main__":
    target, path, many, duration = sys.argv[1:5]
    print(json.dumps(uvloop.run(_run(target, path, int(many), float(duration), sys.stdin.buffer.read()))))
