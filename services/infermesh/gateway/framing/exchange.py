"""Runs one gRPC call on an ASGI connection: request in, handler, answer and trailers out, whatever happens.

Cancelling is one mechanism: the caller going away and the deadline passing both cancel the task that runs the handler,
and leave behind why.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any, Final

from infermesh.errors import Cancelled, DeadlineExceeded, MeshError, Unsupported
from infermesh.gateway.framing import failure, frames, metadata
from infermesh.gateway.framing.guard import Guard
from infermesh.gateway.framing.inbound import Event, Inbound, Receive, watch
from infermesh.gateway.framing.metadata import Header
from infermesh.gateway.framing.methods import Context, Method, Pushing
from infermesh.gateway.framing.outlet import Outlet
from infermesh.mesh.wire import Bytes

Scope = MutableMapping[str, Any]
Send = Callable[[Event], Awaitable[None]]

_CONTENT_TYPE: Final = (b"content-type", b"application/grpc")
_ACCEPT: Final = (b"grpc-accept-encoding", frames.ACCEPTED)
# sent for every call that attaches nothing: made once
_START: Final[Event] = {
    "type": "http.response.start",
    "status": 200,
    "headers": [_CONTENT_TYPE, _ACCEPT],
    "trailers": True,
}
OK_TRAILERS: Final[Event] = {
    "type": "http.response.trailers",
    "headers": [(b"grpc-status", b"0")],
    "more_trailers": False,
}
NOTHING: Final[Event] = {"type": "http.response.body", "body": b"", "more_body": True}
_IDENTITY: Final = b"identity"
_WORTH_SQUEEZING: Final = 1 << 10


class Exchange:
    """One call of a method. `known` are the request's headers as a mapping."""

    __slots__ = (
        "_body_done",
        "_context",
        "_encoding",
        "_ended_by",
        "_guard",
        "_inbound",
        "_known",
        "_life",
        "_method",
        "_receive",
        "_reply_encoding",
        "_running",
        "_scope",
        "_send",
        "_started",
        "_task",
        "_timer",
    )

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        method: Method,
        known: Mapping[bytes, bytes],
        guard: Guard,
    ) -> None:
        self._scope = scope
        self._known = known
        self._receive = receive
        self._send = send
        self._method = method
        self._guard = guard
        self._inbound: Inbound | None = None
        self._life: asyncio.Future[None] | None = None
        self._task: asyncio.Task[Any]
        self._timer: asyncio.TimerHandle | None = None
        self._ended_by: MeshError | None = None
        self._running = True
        self._started = False
        self._body_done = False
        self._encoding = self._reply_encoding = _IDENTITY

    async def run(self) -> None:
        """Runs the call to its end, in a task of its own. Never raises but when the server itself is stopping."""
        self._task = asyncio.current_task()  # type: ignore[assignment]
        try:
            self._begin()
            await self._answer()
            trailers = self._ok() if self._ended_by is None else failure.trailers_of(self._ended_by)
        except asyncio.CancelledError:
            trailers = failure.trailers_of(self._why_cancelled())
        except Exception as error:
            trailers = failure.ending(error, self._scope["path"], self._context.trailing)
        self._running = False
        self._guard.alive.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        if self._inbound is not None:
            self._inbound.close()
        if not isinstance(self._ended_by, Cancelled):
            await self._end(trailers)

    # -- the request ---------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        known = self._known
        self._context = Context(self._scope["path"], self._scope["headers"], known, self._start)
        encoding = known.get(b"grpc-encoding", _IDENTITY)
        if encoding != _IDENTITY:
            self._encoding = frames.check_encoding(encoding)
            if encoding in known.get(b"grpc-accept-encoding", b""):
                self._reply_encoding = encoding
        timeout = known.get(b"grpc-timeout")
        if timeout is not None:
            self._context.deadline = asyncio.get_running_loop().time() + metadata.parse_timeout(timeout)
            if not self._method.keeps_deadline:
                self._arm()

    def _arm(self) -> None:
        if self._context.deadline is not None and self._timer is None:
            self._timer = asyncio.get_running_loop().call_at(self._context.deadline, self._late)

    def _read(self, single: bool) -> Inbound:
        self._inbound = Inbound(self._receive, self._encoding, self._guard, self._gone, single)
        return self._inbound

    async def _single(self) -> bytes:
        """Returns the one request of a call whose caller does not stream."""
        event = await self._guard.in_time(self._receive(), asyncio.get_running_loop().time(), 0)
        if event["type"] == "http.disconnect":
            self._ended_by = Cancelled("the caller went away within its request")
            raise self._ended_by
        # nearly every request is one frame in one chunk
        chunk = b"" if event.get("more_body", False) else event.get("body", b"")
        message = frames.whole(chunk, self._guard.limits.message)
        if message is not None:
            watch(self._receive, self._gone, lambda: not self._running)
            return message
        self._arm()  # its sender may be slow, or stuck
        inbound = self._read(single=True)
        inbound.take(event)
        message = await anext(inbound, None)
        if message is None:
            raise Unsupported("request: expected exactly one message, got none")
        if await anext(inbound, None) is not None:
            raise Unsupported("request: expected exactly one message, got more")
        return message

    # -- the answer ----------------------------------------------------------------------------------------------------

    async def _answer(self) -> None:
        method = self._method
        request: Any
        if method.client_stream:
            request = self._read(single=False)
            request.open()
        else:
            request = await self._single()
        self._guard.alive.add(self)
        result = method.handler(request, self._context)
        if method.pushes:
            await self._push(result)
        elif method.server_stream:
            await self._forward(result)
        else:
            await self._reply(await result)

    async def _reply(self, message: Bytes) -> None:
        if self._ended_by is not None:  # the handler caught its own cancelling
            raise self._ended_by
        self._running = False  # from here on nothing may interrupt
        if not self._started:
            self._started = True
            await self._send(self._head())
        self._body_done = True
        await self._send({"type": "http.response.body", "body": self._frame(message), "more_body": False})

    async def _push(self, answer: Pushing) -> None:
        outlet = Outlet(self._emit, self._gone, self._guard.round)
        try:
            await answer.push(outlet)
            await outlet.finish()
        except MeshError:
            await outlet.finish()
            raise
        finally:
            outlet.close()

    def _emit(self, messages: Sequence[bytes]) -> Awaitable[None]:
        if not self._started:
            self._started = True
            self._send(self._head())  # need not be awaited: only bodies that go on make wait
        if self._reply_encoding is _IDENTITY and len(messages) == 1:  # a token
            body = frames.encode(messages[0])
        else:
            body = b"".join(map(self._frame, messages))
        return self._send({"type": "http.response.body", "body": body, "more_body": True})

    async def _forward(self, responses: AsyncIterator[bytes]) -> None:
        try:
            async for message in responses:
                await self._start()
                await self._send({"type": "http.response.body", "body": self._frame(message), "more_body": True})
        finally:
            await _close(responses)

    async def _start(self) -> None:
        if not self._started:
            self._started = True
            await self._send(self._head())

    def _head(self) -> Event:
        if not self._context.initial and self._reply_encoding is _IDENTITY:
            return _START
        headers = [_CONTENT_TYPE, _ACCEPT, *metadata.encode(self._context.initial)]
        if self._reply_encoding is not _IDENTITY:
            headers.append((b"grpc-encoding", self._reply_encoding))
        return {**_START, "headers": headers}

    def _frame(self, message: Bytes) -> bytes:
        encoding = self._reply_encoding if len(message) >= _WORTH_SQUEEZING else _IDENTITY
        return frames.encode(message, encoding)

    def _ok(self) -> list[Header] | None:
        trailing = self._context.trailing
        return [(b"grpc-status", b"0"), *metadata.encode(trailing)] if trailing else None

    async def _end(self, trailers: list[Header] | None) -> None:
        """Sends what is missing: trailers are only accepted after a final body message, also for errors."""
        if not self._started:
            self._started = True
            await self._send(self._head())
        if not self._body_done:
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        await self._send(OK_TRAILERS if trailers is None else {**OK_TRAILERS, "headers": trailers})

    def _why_cancelled(self) -> MeshError:
        """Returns what ends the call; raises CancelledError if the server itself is stopping."""
        if self._ended_by is None:
            if self._task.cancelling():
                raise asyncio.CancelledError
            return Cancelled("the call was cancelled within the gateway")
        self._task.uncancel()
        return self._ended_by

    def show_life(self) -> None:
        """Sends a chunk of nothing, unless the caller does not even take what went before. The first time only waits.

        Envoy ends a stream on which nothing moves for long. An answer that is not due yet is no reason for that, a
        caller who does not read is: then this chunk does not move, either.
        """
        if self._life is None:
            self._life = asyncio.get_running_loop().create_future()
            self._life.set_result(None)
        elif self._running and self._life.done():
            self._life = asyncio.ensure_future(self._move())

    async def _move(self) -> None:
        try:
            await self._start()
            await self._send(NOTHING)
        except Exception:  # it can't be sent: once the request has ended, nothing else may tell of that
            self._gone()

    def _late(self) -> None:
        self.stop(DeadlineExceeded("the deadline passed before the call was answered"))

    def _gone(self) -> None:
        self.stop(Cancelled("the caller went away"))

    def stop(self, why: MeshError) -> None:
        """Ends the call with an error, unless its end has already begun."""
        if self._running and self._ended_by is None:
            self._ended_by = why
            self._task.cancel()


async def _close(responses: AsyncIterator[bytes]) -> None:
    close = getattr(responses, "aclose", None)  # only generators have it
    if close is not None:
        await close()
