"""Writes what accumulates to a stream, one message at a time, without a task. Used by both ends of the bundled stream.

A task that sleeps until there is something to write is woken in the next turn of the event loop, and costs a hand-over
each time. This runs the coroutine of a write itself: it begins in the turn in which there are news, and goes on from
the callback of whatever it waits for.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

M = TypeVar("M")


class Writer(Generic[M]):
    """Takes messages from `take` until it gives None, and gives each to `write`; `failed` hears how that ended, once.

    `take` never raises. What `write` gives may await futures only: nothing that asks for its task. Belongs to the
    event loop it is used in.
    """

    def __init__(
        self,
        take: Callable[[], M | None],
        write: Callable[[M], Coroutine[Any, Any, None]],
        failed: Callable[[Exception], None],
    ) -> None:
        self._take, self._write, self._failed = take, write, failed
        self._writing: Coroutine[Any, Any, None] | None = None
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
            self._writing = self._write(message)
            self._step()

    def close(self) -> None:
        """Writes nothing more; what is being written is left to itself."""
        self._closed = True

    def _step(self) -> None:
        """Runs the write on until it has to wait, or to its end."""
        writing = self._writing
        assert writing is not None
        try:
            future = writing.send(None)
        except StopIteration:
            self._writing = None
        except asyncio.CancelledError:
            self._writing, self._closed = None, True
        except Exception as error:
            self._writing = None
            if not self._closed:
                self._closed = True
                self._failed(error)
        else:
            if future is None:  # it only lets others run
                asyncio.get_running_loop().call_soon(self._resume)
            else:
                future._asyncio_future_blocking = False  # what a task does with what it is given
                future.add_done_callback(self._resume)

    def _resume(self, _: Any = None) -> None:
        self._step()
        self.flush()
