"""ModelStreamInfer: many requests on one stream, each answered as its own call; one that fails leaves the others be."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import structlog

from infermesh.errors import MeshError, NotReady
from infermesh.gateway.dispatch import Dispatcher
from infermesh.gateway.framing import failure
from infermesh.gateway.framing.methods import Context
from infermesh.gateway.frontends.oip import calls
from infermesh.gateway.frontends.oip.wire import Head, scan

_AT_ONCE: Final = 256
_UNSENT: Final = 64
_NO_HEAD: Final = Head("", "", "", b"")


class InferStreams:
    """The streams of one gateway."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._open: set[_Stream] = set()

    async def run(self, requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        """Yields ModelStreamInferResponses. Raises the error of a request if the caller asked for real statuses."""
        stream = _Stream(self._dispatcher, requests, context)
        self._open.add(stream)
        try:
            async for response in stream.run():
                yield response
        finally:
            self._open.discard(stream)

    def close(self) -> None:
        """Takes no more requests; every stream ends once those that it has are answered."""
        for stream in list(self._open):
            stream.close()


class _Stream:
    """One stream.

    Responses of requests that have one each come in the order of the requests; those of a request that has several go
    out as they come. At most 256 requests are under way; the caller is held back by flow control then.
    """

    def __init__(self, dispatcher: Dispatcher, requests: AsyncIterator[bytes], context: Context) -> None:
        self._dispatcher = dispatcher
        self._requests = requests
        self._context = context
        self._as_status = context.header(b"triton_grpc_error").lower() == "true"
        self._trace = (context.header(b"traceparent"), context.header(b"tracestate"))
        self._out: asyncio.Queue[bytes | MeshError | None] = asyncio.Queue(_UNSENT)
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._reader: asyncio.Task[None] | None = None
        self._waiting = self._closing = False

    def close(self) -> None:
        """Takes no more requests."""
        self._closing = True
        if self._waiting and self._reader is not None:
            self._reader.cancel()

    async def run(self) -> AsyncIterator[bytes]:
        """Yields the responses of all requests."""
        reader = self._reader = asyncio.create_task(self._read())
        try:
            while (item := await self._out.get()) is not None:
                if isinstance(item, MeshError):
                    raise item
                yield item
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    async def _read(self) -> None:
        """Begins a task for every request; ends when all are answered, with what broke the requests' own stream."""
        broken = None
        before = asyncio.Event()
        before.set()
        async with asyncio.TaskGroup() as tasks:
            try:
                while (data := await self._next()) is not None:
                    await self._slots.acquire()
                    mine = asyncio.Event()
                    tasks.create_task(self._serve(data, before, mine))
                    before = mine
            except MeshError as error:
                broken = error
        await self._out.put(broken)

    async def _next(self) -> bytes | None:
        """Returns the next request, or None at the end. Raises NotReady once the stream takes no more."""
        self._waiting = not self._closing
        try:
            if self._waiting:
                return await anext(self._requests, None)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not self._closing or task is None:
                raise
            task.uncancel()
        finally:
            self._waiting = False
        raise NotReady("the gateway is shutting down; open the stream again at another one", retry_after=1.0)

    async def _serve(self, data: bytes, before: asyncio.Event, mine: asyncio.Event) -> None:
        head = _NO_HEAD
        try:
            head = scan(data)
            await self._answer(head, data, before, mine)
        except Exception as error:
            shown = failure.shown(error)
            if shown is not error:
                log = structlog.get_logger(__name__)
                log.error("unexpected error", request_id=shown.metadata["request_id"], exc_info=error)
            await before.wait()
            await self._out.put(shown if self._as_status else calls.stream_error(head, shown.message))
        finally:
            mine.set()
            self._slots.release()

    async def _answer(self, head: Head, data: bytes, before: asyncio.Event, mine: asyncio.Event) -> None:
        now = asyncio.get_running_loop().time()
        call = calls.make_call(head, data, now, self._context.deadline, self._trace)
        stream = self._dispatcher.stream(call)
        final = False
        try:
            async for response in stream:
                final = stream.drained()
                if not final:
                    mine.set()  # it has several: nobody waits for its turn behind them
                elif not mine.is_set():
                    await before.wait()
                await self._out.put(calls.stream_response(response, final))
        finally:
            await stream.aclose()
        if not final and calls.wants_empty_final(head):
            await self._out.put(calls.empty_final(head, call.version))
