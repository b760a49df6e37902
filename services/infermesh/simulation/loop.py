"""An event loop in virtual time: a heap of timers and a queue of callbacks, no files, no waiting, one order always."""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from itertools import count
from typing import Any, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class _Timer(asyncio.TimerHandle):
    """A callback and its time. No context: nothing that is simulated keeps state in one."""

    __slots__ = ()

    def __init__(self, when: float, callback: Callable[..., object], args: tuple[Any, ...]) -> None:
        self._when, self._callback, self._args, self._cancelled = when, callback, args, False

    def cancel(self) -> None:
        """Makes it never run."""
        self._cancelled = True
        self._callback, self._args = _nothing, ()

    def __repr__(self) -> str:
        return f"<timer at {self._when} of {self._callback!r}>"

    def run(self) -> None:
        """Runs it."""
        self._callback(*self._args)


def _nothing() -> None:
    """What a cancelled timer does."""


class VirtualLoop(asyncio.AbstractEventLoop):
    """Runs callbacks in the order of their times, and of their scheduling where times are equal.

    Time stands still while callbacks run and jumps to the next timer when none is left. An exception that nobody
    awaits ends the run: a simulation must not go on with a part of it dead.
    """

    def __init__(self) -> None:
        self._now = 0.0
        self._ready: deque[_Timer] = deque()
        self._timers: list[tuple[float, int, _Timer]] = []
        self._order = count()
        self._failure: BaseException | None = None

    def time(self) -> float:
        """Returns the virtual time in seconds."""
        return self._now

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """Runs a callback before time goes on."""
        handle = _Timer(self._now, callback, args)
        self._ready.append(handle)
        return handle

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Runs a callback at a time; at once if that has passed."""
        handle = _Timer(when, callback, args)
        heapq.heappush(self._timers, (when, next(self._order), handle))
        return handle

    def call_later(
        self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Runs a callback after some seconds."""
        return self.call_at(self._now + delay, callback, *args, context=context)

    def create_future(self) -> asyncio.Future[Any]:
        """Returns a future of this loop."""
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: str | None = None,
        context: Context | None = None,
    ) -> asyncio.Task[T]:
        """Runs a coroutine."""
        return asyncio.Task(coro, loop=self, name=name, context=context)

    def get_debug(self) -> bool:
        """Returns False."""
        return False

    def is_running(self) -> bool:
        """Tells whether callbacks are being run."""
        return asyncio._get_running_loop() is self

    def is_closed(self) -> bool:
        """Returns False: there is nothing to close."""
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Ends the run with the exception that nobody else took."""
        self._failure = context.get("exception") or RuntimeError(context["message"])

    def run_until_complete(self, future: Any) -> Any:
        """Runs until a coroutine or future is done, and returns its result. Raises RuntimeError if it can't end."""
        before = asyncio._get_running_loop()
        asyncio._set_running_loop(self)
        try:
            waited = asyncio.ensure_future(future, loop=self)
            while not waited.done():
                self._turn()
                if self._failure is not None:
                    raise self._failure
            return waited.result()
        finally:
            asyncio._set_running_loop(before)

    def _turn(self) -> None:
        ready, timers = self._ready, self._timers
        if not ready:
            self._jump()
        now = self._now
        while timers and timers[0][0] <= now:
            ready.append(heapq.heappop(timers)[2])
        for _ in range(len(ready)):
            ready.popleft().run()

    def _jump(self) -> None:
        timers = self._timers
        while timers and timers[0][2].cancelled():
            heapq.heappop(timers)
        if not timers:
            raise RuntimeError("every task waits and no timer is set: this would hang for ever")
        self._now = max(self._now, timers[0][0])
