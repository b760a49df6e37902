"""Writes what accumulates to a stream, one message at a time, without a task. Used by both ends of the bundled stream.

A task that sleeps until there is something to write is woken in the next turn of the event loop, and costs a hand-over
each time. This writes in the turn in which there are news, and goes on from the callback of whatever it waits for.
"""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

M = TypeVar("M")


class Writer(Generic[M]):
    """Takes messages from `take` until it gives None, and gives each to `write`; `failed` hears how that ended, once.

    `take` never raises. `write` returns None if the next message may follow at once, else a future that is done when it
    may. Belongs to the event loop it is used in.
    """

    def __init__(
        self,
        take: Callable[[], M | None],
        write: Callable[[M], "asyncio.Future[None] | None"],
        failed: Callable[[Exception], None],
    ) -> None:
        self._take, self._write, self._failed = take, write, failed
        self._writing: asyncio.Future[None] | None = None
        self._due = False
        self._closed = False

    def news(self) -> None:
        """Says that there is something to write: it leaves at the end of this turn of the loop, with what comes till
        then, or once the message that is being written has left."""
        if not self._due and self._writing is None:
            self._due = True
            asyncio.get_running_loop().call_soon(self.flush)

    def flush(self) -> None:
        """Writes what there is, now, unless a message is being written."""
        self._due = False
        while self._writing is None and not self._closed:
            message = self._take()
            if message is None:
                return
            try:
                self._writing = self._write(message)
            except Exception as error:
                self._fail(error)
                return
            if self._writing is not None:
                self._writing.add_done_callback(self._written)

    def close(self) -> None:
        """Writes nothing more; what is being written is left to itself."""
        self._closed = True

    def _written(self, writing: "asyncio.Future[None]") -> None:
        self._writing = None
        try:
            writing.result()
        except asyncio.CancelledError:
            self._closed = True
        except Exception as error:
            self._fail(error)
        else:
            self.flush()

    def _fail(self, error: Exception) -> None:
        if not self._closed:
            self._closed = True
            self._failed(error)
