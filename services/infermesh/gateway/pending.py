"""A call under way: the future that a front end awaits, and its place in the gateway. Made by the dispatcher."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from infermesh.errors import MeshError
from infermesh.gateway import admission
from infermesh.gateway.calls import Call
from infermesh.gateway.stats import OK
from infermesh.mesh.status import code_of
from infermesh.mesh.wire import Bytes
from infermesh.v1.worker_service_pb2 import WorkItem

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from infermesh.gateway.targets import Lane, TargetState

_ITEM_OVERHEAD: Final = 128  # bytes that an unread response takes beside its own


class Owner(Protocol):
    """Takes a call back out of wherever it is. The dispatcher."""

    def withdraw(self, pending: "Pending") -> None:
        """The call is no longer wanted: takes it from its queue, or cancels it at the worker. Never raises."""
        ...

    def ended(self, pending: "Pending", code: str, queue_us: int, compute_us: int) -> None:
        """The call has ended with `code`; called exactly once for each. Never raises."""
        ...


class Pending(asyncio.Future[Bytes]):
    """A unary call: a future that knows where its call is.

    One object instead of a future and a record, because there is one for every call. It is in at most one place:
    in a target's queue (`ticket` is not 0), at a worker (`lane` is set), or held by the dispatcher.
    """

    __slots__ = (
        "alone",
        "arrival",
        "attempts",
        "call",
        "id",
        "lane",
        "owner",
        "sent",
        "slot",
        "span",
        "started",
        "target",
        "ticket",
        "timer",
        "trace",
        "tried",
    )
    kind = WorkItem.INFER

    def __init__(self, call: Call, owner: Owner, arrival: int, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self.call = call
        self.owner = owner
        self.arrival = arrival
        self.started = time.perf_counter()
        self.target: TargetState | None = None
        self.lane: Lane | None = None
        self.ticket = 0
        self.id = 0
        self.sent = False
        self.attempts = 0
        self.alone = False
        self.tried: tuple[str, ...] = ()
        self.slot: dict[Any, float] | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.span: Span | None = None
        self.trace: tuple[str, str] | None = None

    def repeatable(self) -> bool:
        """Tells whether the call may be sent again after a worker had begun it."""
        return True

    def deliver(self, payload: Bytes, final: bool, queue_us: int, compute_us: int) -> None:
        """Takes a response."""
        if not self.done():
            self.answer(payload)
            self.settle(queue_us, compute_us)

    def answer(self, payload: Bytes) -> None:
        """Gives the response of a unary call that has not ended to whoever waits for it. `settle` follows, soon."""
        self.set_result(payload)

    def settle(self, queue_us: int, compute_us: int) -> None:
        """Has a call that was answered counted."""
        self.owner.ended(self, OK, queue_us, compute_us)

    def fail(self, error: MeshError) -> None:
        """Ends the call with an error, if it has not ended."""
        if not self.done():
            self.set_exception(error)
            self.owner.ended(self, code_of(error).name, 0, 0)

    def cancel(self, msg: Any | None = None) -> bool:
        """Ends the call because the caller went away; a worker that has it is told."""
        if not super().cancel(msg):
            return False
        self.owner.withdraw(self)
        self.owner.ended(self, "CANCELLED", 0, 0)
        return True


class Sink(Protocol):
    """Where the result of a call goes whose caller awaits no future. Neither method raises."""

    def answer(self, payload: Bytes, /) -> None:
        """The call was answered."""
        ...

    def fail(self, error: MeshError, /) -> None:
        """The call has failed."""
        ...


class DirectPending(Pending):
    """A unary call that hands its result on in the turn of the event loop in which it comes. As a future it is the end
    of the call, which is not told by an exception."""

    __slots__ = ("_sink",)

    def __init__(self, call: Call, owner: Owner, arrival: int, loop: asyncio.AbstractEventLoop, sink: Sink) -> None:
        super().__init__(call, owner, arrival, loop)
        self._sink = sink

    def tap(self, wrap: Callable[[Sink], Sink]) -> None:
        """Puts a sink of `wrap`'s making in the place of the sink."""
        self._sink = wrap(self._sink)

    def answer(self, payload: Bytes) -> None:
        """Gives the response to the sink."""
        self.set_result(b"")
        self._sink.answer(payload)

    def fail(self, error: MeshError) -> None:
        """Ends the call with an error, if it has not ended."""
        if not self.done():
            self.set_result(b"")
            self.owner.ended(self, code_of(error).name, 0, 0)
            self._sink.fail(error)


class PendingStream(Pending):
    """A call with any number of responses: iterate over it. As a future it is the end of the call.

    Responses that are not read yet are kept up to a bound; beyond it the call is cancelled at the worker and ends with
    Overloaded, since the stream that carries it carries other calls too and can't be held back.
    """

    __slots__ = ("_begun", "_bound", "_listener", "_unread", "_unread_bytes", "_waiter", "error")
    kind = WorkItem.STREAM

    def __init__(self, call: Call, owner: Owner, arrival: int, loop: asyncio.AbstractEventLoop, bound: int) -> None:
        super().__init__(call, owner, arrival, loop)
        self._bound = bound
        self._unread: deque[bytes] = deque()
        self._unread_bytes = 0
        self._begun = False
        self._listener: Callable[[], None] | None = None
        self.error: MeshError | None = None
        """What the call has failed with."""
        self._waiter: asyncio.Future[None] | None = None

    def __aiter__(self) -> "PendingStream":
        return self

    async def __anext__(self) -> bytes:
        while not self._unread:
            if self.done():
                if self.error is not None:
                    raise self.error
                raise StopAsyncIteration
            await self._next()
        payload = self._unread.popleft()
        self._unread_bytes -= len(payload) + _ITEM_OVERHEAD
        return payload

    def listen(self, listener: Callable[[], None]) -> None:
        """Has `listener` called at every response and at the end, for callers that do not iterate; it never raises."""
        self._listener = listener

    def unread(self) -> int:
        """Returns how many responses have come and were not read."""
        return len(self._unread)

    def take(self) -> list[bytes]:
        """Reads all responses that have come."""
        responses = list(self._unread)
        self._unread.clear()
        self._unread_bytes = 0
        return responses

    def drained(self) -> bool:
        """Tells whether the call has ended well and every response was read: the last one read was the last of all."""
        return self.done() and self.error is None and not self._unread

    async def _next(self) -> None:
        self._waiter = self.get_loop().create_future()
        try:
            await self._waiter
        except asyncio.CancelledError:
            self.cancel()
            raise
        finally:
            self._waiter = None

    async def aclose(self) -> None:
        """Ends the call; if it is still under way the worker is told. What was not read is dropped."""
        self.cancel()
        self._unread.clear()

    def repeatable(self) -> bool:
        """Tells whether no response has come yet."""
        return not self._begun

    def deliver(self, payload: Bytes, final: bool, queue_us: int, compute_us: int) -> None:
        """Takes a response, or the empty end of the call."""
        if self.done():
            return
        self._begun = True
        if payload:
            self._unread.append(bytes(payload))  # a view would keep the whole bundle while it waits
            self._unread_bytes += len(payload) + _ITEM_OVERHEAD
        if final:
            self.set_result(b"")
            self.owner.ended(self, OK, queue_us, compute_us)
        elif self._unread_bytes > self._bound:
            self.owner.withdraw(self)
            self.fail(admission.reader_too_slow(self.call, self._bound))
        self._wake()

    def fail(self, error: MeshError) -> None:
        """Ends the call with an error, after what was received before."""
        if not self.done():
            self.error = error
            self.set_result(b"")
            self.owner.ended(self, code_of(error).name, 0, 0)
            self._wake()

    def cancel(self, msg: Any | None = None) -> bool:
        """Ends the call because the caller went away."""
        cancelled = super().cancel(msg)
        self._wake()
        return cancelled

    def _wake(self) -> None:
        if self._listener is not None:
            self._listener()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
