"""The application in Envoy: puts each request's bytes into a bundle, and each result's into a response."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc.aio

from benchmarks.h2load import frame
from infermesh.v1.worker_service_pb2 import ResultBundle, WorkBundle

WORKER_VARIABLE: Final = "PROTOTYPE_WORKER"
METHOD: Final = "/Prototype/Serve"
_START: Final = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/grpc")],
    "trailers": True,
}
_END: Final = {"type": "http.response.trailers", "headers": [(b"grpc-status", b"0")], "more_trailers": False}

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class Link:
    """One stream to the worker. What comes while a bundle is written leaves with the next one."""

    def __init__(self, address: str) -> None:
        unlimited = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self._loop = asyncio.get_running_loop()
        self._channel = grpc.aio.insecure_channel(address, options=unlimited)
        self._stream: Any = self._channel.stream_stream(METHOD)()
        self._calls: dict[int, asyncio.Future[bytes]] = {}
        self._last = 0
        self._bundle = WorkBundle()
        self._news = asyncio.Event()
        self._tasks = [self._loop.create_task(self._read()), self._loop.create_task(self._write())]

    def call(self, message: bytes) -> asyncio.Future[bytes]:
        """Sends a request; returns its response."""
        self._last += 1
        self._bundle.items.add(id=self._last, payload=message)
        self._news.set()
        future = self._calls[self._last] = self._loop.create_future()
        return future

    async def _read(self) -> None:
        while (data := await self._stream.read()) is not grpc.aio.EOF:
            for result in ResultBundle.FromString(data).results:
                future = self._calls.pop(result.id)
                if not future.done():
                    future.set_result(result.payload)

    async def _write(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            bundle, self._bundle = self._bundle, WorkBundle()
            await self._stream.write(bundle.SerializeToString())


class App:
    """The ASGI application."""

    def __init__(self) -> None:
        self._link: Link | None = None

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Serves a call, or the life of the process."""
        if scope["type"] == "lifespan":
            await receive()
            self._link = Link(os.environ[WORKER_VARIABLE])
            await send({"type": "lifespan.startup.complete"})
            await receive()
            return
        assert self._link is not None
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        response = await self._link.call(message["body"][5:])
        await send(_START)
        await send({"type": "http.response.body", "body": frame(response), "more_body": False})
        await send(_END)


app = App()
