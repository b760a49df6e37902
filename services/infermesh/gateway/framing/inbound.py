"""The requests of a streaming call, read ahead a little. Used by `exchange` only."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from infermesh.errors import Cancelled, MeshError, Overloaded
from infermesh.gateway.framing.guard import Guard
from infermesh.mesh.messages import HEADER, Decoder

Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]

_READ_AHEAD: Final = 64 << 10
_LOOK_AGAIN: Final = 0.25  # seconds, at first
_LOOK_LATER: Final = 1.0  # seconds, at most: whoever has waited long is worth fewer questions
_GATHERED: Final = 64 << 10
"""Missing bytes of a message above which the next chunk is given time to become a large one."""
_GATHERING: Final = 0.001
"""That time in seconds. The sender goes on meanwhile: the protocol's windows are larger."""


class Inbound:
    """An async iterator of messages; close it at the end of the call.

    Reads on while less than 64 KiB wait, so that a caller who goes away is noticed though the handler does not read,
    and one who sends faster than the handler reads is held back by the protocol's flow control. Cancelling the
    reader is safe: nothing is lost but a message that is just being decompressed.

    A message must not come too slowly; of a `single` one not even its beginning or the end of the stream, and it counts
    as held until the call ends. Between the messages of a stream any time may pass.
    """

    def __init__(
        self, receive: Receive, encoding: bytes, guard: Guard, gone: Callable[[], None], single: bool = False
    ) -> None:
        self._receive = receive
        self._encoding = encoding
        self._guard = guard
        self._decoder = Decoder(guard.limits.message)
        self._gone = gone
        self._single = single
        self._received = 0
        self._held = 0
        self._asking = False
        self._ended = self._closed = False
        self._broken: MeshError | None = None
        self._waiter: asyncio.Future[None] | None = None

    def __aiter__(self) -> "Inbound":
        return self

    async def __anext__(self) -> bytes:
        """Returns the next message.

        Raises what `Decoder` and `Guard` raise, and Cancelled if the caller went away.
        """
        began, before = asyncio.get_running_loop().time(), self._received
        while (cut := self._decoder.cut()) is None:
            if self._broken is not None:  # never pass half a request off as a whole one
                raise self._broken
            if self._ended:
                self._decoder.finish()
                raise StopAsyncIteration
            self._ask()
            self._waiter = asyncio.get_running_loop().create_future()
            if self._single or len(self._decoder):
                await self._guard.in_time(self._waiter, began, self._received - before)
            else:
                await self._waiter
                began, before = asyncio.get_running_loop().time(), self._received
        self._read_ahead()
        return await self._whole(*cut)

    async def _whole(self, message: bytes, compressed: bool) -> bytes:
        if not self._single:
            self._give(HEADER + len(message))
        if not compressed:
            return message
        plain = await self._guard.inflate(message, self._encoding)
        if self._single:
            self._take(len(plain))
        return plain

    def close(self) -> None:
        """Says that the messages are no longer needed. Idempotent."""
        self._closed = True
        self._give(self._held)

    def _take(self, size: int) -> None:
        self._guard.take(size)
        self._held += size

    def _give(self, size: int) -> None:
        self._guard.give(size)
        self._held -= size

    def open(self) -> None:
        """Begins to read, so that a caller who goes away is noticed before the handler reads."""
        self._read_ahead()

    def take(self, event: Event) -> None:
        """Takes one ASGI event. The type comes first: a disconnect may come within a body and has no `more_body`."""
        if event["type"] == "http.disconnect":
            self._ended = True
            self._broken = Cancelled("the caller went away within its request")
            self._gone()
        elif self._feed(event.get("body", b"")) and not event.get("more_body", False):
            self._ended = True
            watch(self._receive, self._gone, lambda: self._closed)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _feed(self, body: bytes) -> bool:
        """Keeps a chunk, or the reason why not."""
        try:
            self._take(len(body))
        except Overloaded as error:
            self._ended = True
            self._broken = error
            return False
        self._received += len(body)
        self._decoder.feed(body)
        return True

    def _read_ahead(self) -> None:
        if not self._ended and len(self._decoder) < _READ_AHEAD:
            self._ask()

    def _ask(self) -> None:
        if self._asking:
            return
        self._asking = True
        if self._single and self._decoder.missing() > _GATHERED:
            # asking costs more than copying: what comes in the meantime is given in one piece
            asyncio.get_running_loop().call_later(_GATHERING, self._receive_now)
        else:
            self._receive_now()

    def _receive_now(self) -> None:
        asked(self._receive).add_done_callback(self._arrived)

    def _arrived(self, future: "asyncio.Future[Event]") -> None:
        self._asking = False
        self.take(event_of(future))
        self._read_ahead()


def asked(receive: Receive) -> "asyncio.Future[Event]":
    """Asks for the next event. Envoy gives a future, or something merely awaitable where there is no body."""
    answer = receive()
    return answer if isinstance(answer, asyncio.Future) else asyncio.ensure_future(_wait(answer))


async def _wait(answer: Awaitable[Event]) -> Event:
    return await answer


def event_of(future: "asyncio.Future[Event]") -> Event:
    """Returns the event of a receive() that is done; a disconnect if it failed."""
    if future.cancelled() or future.exception() is not None:
        return {"type": "http.disconnect"}
    return future.result()


def watch(receive: Receive, gone: Callable[[], None], over: Callable[[], bool]) -> None:
    """Calls `gone` if the caller goes away, once the whole request is read and until the call is `over`.

    After the end of a request `receive()` gives an empty one at once while the caller is there, a disconnect if not: so
    it is asked again and again, after pauses that grow to a second.
    """
    _Watch(receive, gone, over).ask()


class _Watch:
    """What `watch` does; an object, as functions that know each other would be left to the collector."""

    __slots__ = ("_gone", "_over", "_pause", "_receive")

    def __init__(self, receive: Receive, gone: Callable[[], None], over: Callable[[], bool]) -> None:
        self._receive, self._gone, self._over = receive, gone, over
        self._pause = _LOOK_AGAIN

    def ask(self) -> None:
        if not self._over():
            asked(self._receive).add_done_callback(self._arrived)

    def _arrived(self, future: "asyncio.Future[Event]") -> None:
        if event_of(future)["type"] != "http.disconnect":
            asyncio.get_running_loop().call_later(self._pause, self.ask)
            self._pause = min(2 * self._pause, _LOOK_LATER)
        elif not self._over():
            self._gone()
