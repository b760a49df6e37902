"""ModelStreamInfer: many requests on one stream, each answered as its own call; one that fails leaves the others be.

No task and no queue for a request: what the dispatcher's calls hold is pulled when the caller can take it.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Final

import structlog

from infermesh.errors import MeshError, NotReady
from infermesh.gateway.dispatch import Dispatcher
from infermesh.gateway.framing import failure
from infermesh.gateway.framing.methods import Context
from infermesh.gateway.framing.outlet import Outlet
from infermesh.gateway.frontends.oip import calls
from infermesh.gateway.frontends.oip.wire import Head, scan
from infermesh.gateway.pending import PendingStream

_AT_ONCE: Final = 256
_FIRST: Final = 5.0
"""Seconds from its beginning within which a stream's first request is taken though the gateway leaves.

Headers and request leave a client one after the other; where it, or this gateway, is busy seconds may lie between.
"""
_NO_HEAD: Final = Head("", "", "", b"")


class InferStreams:
    """The streams of one gateway."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._open: set[_Stream] = set()
        self._closed = False

    def begin(self, requests: AsyncIterator[bytes], context: Context) -> "_Stream":
        """Returns what pushes ModelStreamInferResponses; it raises a request's error if the caller asked for that."""
        stream = _Stream(self._dispatcher, requests, context, self._open)
        if self._closed:
            stream.close()
        return stream

    def close(self) -> None:
        """Takes no more requests; every stream ends once those that it has are answered.

        A stream that has just begun, or begins yet, may still send its first.
        """
        self._closed = True
        for stream in list(self._open):
            stream.close()


class _Answer:
    """A request that is under way, or could not be begun: then `error` says why."""

    __slots__ = ("error", "head", "known", "pending", "several")

    def __init__(self, head: Head) -> None:
        self.head = head
        self.pending: PendingStream | None = None
        self.error: MeshError | None = None
        self.several = False
        """True once it is known to have more than one response: nobody waits for its turn, nor behind it."""
        self.known = False
        """True while it is among those that have news."""

    @property
    def ended(self) -> bool:
        return self.pending is None or self.pending.done()


class _Stream:
    """One stream.

    Responses of requests that have one each come in the order of the requests; those of a request that has several go
    out as they come. At most 256 requests are under way; the caller is held back by flow control then.
    """

    def __init__(
        self, dispatcher: Dispatcher, requests: AsyncIterator[bytes], context: Context, among: "set[_Stream]"
    ) -> None:
        self._dispatcher = dispatcher
        self._requests = requests
        self._context = context
        self._among = among
        self._as_status = context.header(b"triton_grpc_error").lower() == "true"
        self._trace = (context.header(b"traceparent"), context.header(b"tracestate"))
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._under_way: set[_Answer] = set()
        self._turns: deque[_Answer] = deque()  # in the order of the requests
        self._news: list[_Answer] = []
        self._tell: Callable[[], None] = lambda: None
        self._reader: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._waiting = self._asked = self._closing = self._read_all = False
        self._goodbye: MeshError | None = None  # what the stream ends with once all is answered
        self._failure: MeshError | None = None  # what it ends with now
        self._end: asyncio.Future[None] = self._loop.create_future()

    def close(self) -> None:
        """Takes no more requests; one that was never asked has until 5 s after its beginning for the first."""
        last = self._began + _FIRST
        if self._asked or self._loop.time() >= last:
            self._stop_reading()
        else:
            self._loop.call_at(last, self._stop_reading)

    def _stop_reading(self) -> None:
        self._closing = True
        if self._waiting and self._reader is not None:
            self._reader.cancel()

    async def push(self, outlet: Outlet) -> None:
        """See `Pushing.push`."""
        outlet.open(self._pull)
        self._tell = outlet.news
        self._among.add(self)
        reader = self._reader = asyncio.create_task(self._read())
        try:
            await self._end
        finally:
            self._among.discard(self)
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
            for answer in self._under_way:
                if answer.pending is not None:
                    answer.pending.cancel()
        if self._failure is not None:
            raise self._failure
        if self._goodbye is not None and not await self._asks_no_more():
            raise self._goodbye

    async def _asks_no_more(self) -> bool:
        """Tells whether the caller has ended his side: then a goodbye is none of his business."""
        try:
            async with asyncio.timeout(0):  # what has come is given at once
                return await anext(self._requests, None) is None
        except (TimeoutError, MeshError):
            return False

    # --- requests ------------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        try:
            while (data := await self._next()) is not None:
                await self._slots.acquire()
                self._begin(data)
        except MeshError as error:
            self._goodbye = error
        self._read_all = True
        self._look_ended()

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

    def _begin(self, data: bytes) -> None:
        self._asked = True
        answer = _Answer(_NO_HEAD)
        self._under_way.add(answer)
        self._turns.append(answer)
        try:
            answer.head = scan(data)
            now = self._loop.time()
            call = calls.make_call(answer.head, data, now, self._context.deadline, self._trace)
            pending = answer.pending = self._dispatcher.stream(call)
        except Exception as error:
            answer.error = _shown(error)
            self._heard(answer)
        else:
            pending.listen(partial(self._heard, answer))
            if pending.done():
                self._heard(answer)

    # --- responses -----------------------------------------------------------------------------------------------

    def _heard(self, answer: _Answer) -> None:
        if not answer.known:
            answer.known = True
            self._news.append(answer)
            self._tell()

    def _pull(self) -> list[bytes]:
        """Returns what can be sent now."""
        out: list[bytes] = []
        news, self._news = self._news, []
        if self._failure is not None:
            return out
        for answer in news:
            answer.known = False
            pending = answer.pending
            if not answer.several and pending is not None:
                answer.several = pending.unread() > (1 if pending.done() else 0)
            if answer.several:
                self._collect(answer, out)
        turns = self._turns
        while turns and self._failure is None and (turns[0].several or turns[0].ended):
            answer = turns.popleft()
            if not answer.several:
                self._collect(answer, out)
        self._look_ended()
        return out

    def _collect(self, answer: _Answer, out: list[bytes]) -> None:
        """Reads what an answer has, and parts from it if that was all."""
        pending = answer.pending
        responses = pending.take() if pending is not None else []
        ended = answer.ended
        error = answer.error if pending is None else pending.error
        if responses:
            last = responses.pop()
            for response in responses:
                out.append(calls.stream_response(response, False))
            out.append(calls.stream_response(last, ended and error is None))
            responses.append(last)
        if not ended:
            return
        self._under_way.discard(answer)
        self._slots.release()
        if error is not None:
            self._fail(answer, error, out)
        elif not responses and pending is not None and calls.wants_empty_final(answer.head):
            out.append(calls.empty_final(answer.head, pending.call.version))

    def _fail(self, answer: _Answer, error: MeshError, out: list[bytes]) -> None:
        error = _shown(error)
        if not self._as_status:
            out.append(calls.stream_error(answer.head, error.message))
        elif self._failure is None:
            self._failure = error
            self._look_ended()

    def _look_ended(self) -> None:
        over = self._failure is not None or (self._read_all and not self._under_way)
        if over and not self._end.done():
            self._end.set_result(None)


def _shown(error: Exception) -> MeshError:
    """Returns an error as the caller may see it."""
    shown = failure.shown(error)
    if shown is not error:
        log = structlog.get_logger(__name__)
        log.error("unexpected error", request_id=shown.metadata["request_id"], exc_info=error)
    return shown
