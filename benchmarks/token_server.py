"""What token streams are measured against: a `grpc.aio` server on uvloop that sends one message for each token.

Usage: token_server.py TOKENS STEP < message      prints its address, serves until it is sent SIGTERM

Every call is answered by TOKENS copies of the message. They are due every STEP seconds for all calls together, as the
steps of an engine are; with a STEP of 0 at once.
"""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator

import grpc
import uvloop


class _Tokens(grpc.GenericRpcHandler):
    def __init__(self, count: int, step: float, message: bytes) -> None:
        self._count, self._step, self._message = count, step, message
        self._next: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        return grpc.stream_stream_rpc_method_handler(self._answer)

    async def _answer(self, requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        async for _ in requests:
            for _ in range(self._count):
                if self._step:
                    await asyncio.shield(self._next)
                yield self._message

    async def run(self) -> None:
        """Steps for ever."""
        loop = asyncio.get_running_loop()
        while self._step:
            await asyncio.sleep(self._step)
            done, self._next = self._next, loop.create_future()
            done.set_result(None)


async def _main() -> None:
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    tokens = _Tokens(int(sys.argv[1]), float(sys.argv[2]), sys.stdin.buffer.read())
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((tokens,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    stepping = asyncio.create_task(tokens.run())
    await stopped.wait()
    stepping.cancel()
    await server.stop(None)


if __name__ == "__main__":
    uvloop.run(_main())
