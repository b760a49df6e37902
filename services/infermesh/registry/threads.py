"""Where blocking work goes: the catalog and the artifact store run here, never on the event loop."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Threads:
    """A few threads for blocking calls. Made in `main`; closed after the servers have drained."""

    def __init__(self, count: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix=name)

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Returns what `call` returns.

        A thread can't be cancelled, so cancelling waits for the call to end: whatever it works on is free again
        once this has returned or raised.
        """
        future = asyncio.get_running_loop().run_in_executor(self._pool, lambda: call(*args, **kwargs))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            while not future.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([future])
            future.exception()  # nobody will ask for it any more
            raise

    async def next(self, iterator: Iterator[T]) -> T | None:
        """Returns the next item of a blocking iterator; None at its end."""
        return await self.run(next, iterator, None)

    def close(self) -> None:
        """Waits for calls under way and ends the threads; blocks."""
        self._pool.shutdown()
