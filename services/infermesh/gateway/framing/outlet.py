"""The response stream of a call whose handler pushes: messages leave without a task, those that wait together.

Made by `exchange`, used by handlers.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

Pull = Callable[[], Sequence[bytes]]
Write = Callable[[Sequence[bytes]], Awaitable[None]]


class Round:
    """The outlets that have news: one callback of the event loop serves them all, as a token of each costs too little
    for one of its own."""

    __slots__ = ("_due",)

    def __init__(self) -> None:
        self._due: list[Outlet] = []

    def join(self, outlet: "Outlet") -> None:
        """Has an outlet flushed in the loop's next turn."""
        if not self._due:
            asyncio.get_running_loop().call_soon(self._serve)
        self._due.append(outlet)

    def _serve(self) -> None:
        due, self._due = self._due, []
        for outlet in due:
            try:
                outlet.flush()
            except Exception as error:  # a fault of ours with one must not silence the others
                structlog.get_logger(__name__).error("outlet failed", exc_info=error)


class Outlet:
    """Takes messages from `pull` and gives them to `write`, whenever there are news and the caller keeps up.

    What there is at the end of a turn of the event loop leaves in one chunk. As long as the front door has not taken
    the chunk before nothing is pulled: whoever holds the messages bounds how many may wait.

    Once the request has ended, that a chunk can't be sent may be all that tells of a caller who went away.
    """

    __slots__ = ("_closed", "_due", "_gone", "_moving", "_pull", "_round", "_waiting", "_write")

    def __init__(self, write: Write, gone: Callable[[], None], round_: Round) -> None:
        """What `write` gives fails if the caller has gone away; then `gone` is called."""
        self._round = round_
        self._write, self._gone = write, gone
        self._pull: Pull = tuple
        self._moving: asyncio.Future[None] | None = None
        self._due = self._waiting = self._closed = False

    def open(self, pull: Pull) -> None:
        """Sets where messages come from: `pull` gives, and forgets, what can be sent now. It never raises."""
        self._pull = pull

    def news(self) -> None:
        """Says that there may be something to pull. Never pulls from within."""
        if not self._due:
            self._due = True
            self._round.join(self)

    async def finish(self) -> None:
        """Sends what is left, at the pace of the caller, and closes."""
        while self._moving is not None and not self._moving.done():
            await asyncio.wait([self._moving])
        self.flush()
        self.close()

    def close(self) -> None:
        """Pulls nothing any more."""
        self._closed = True
        if self._moving is not None:
            self._moving.add_done_callback(_failed)

    def flush(self) -> None:
        """Sends what there is, unless the caller has yet to take what went before."""
        self._due = False
        moving = self._moving
        if self._closed or self._waiting:
            return
        if moving is not None:
            if not moving.done():
                self._waiting = True
                moving.add_done_callback(self._moved)
                return
            if _failed(moving):
                self.close()
                self._gone()
                return
        messages = self._pull()
        if messages:
            sent = self._write(messages)
            self._moving = sent if isinstance(sent, asyncio.Future) else asyncio.ensure_future(sent)

    def _moved(self, moving: "asyncio.Future[None]") -> None:
        self._waiting = False
        self.flush()


def _failed(moving: "asyncio.Future[None]") -> bool:
    """Tells whether a chunk that is over was not taken; asyncio logs exceptions that nobody looks at."""
    return moving.cancelled() or moving.exception() is not None
