"""The line between the supervisor and the app inside Envoy: a unix socket in their private folder, one word a line.

The app says `ready` and the address of its gRPC port, if it has one, or `failed <why>`, and `serving` once it knows
where to send calls; the supervisor says `drain` (health becomes NOT_SERVING), `close` (calls that never end by
themselves are ended, clients of the gRPC port sent away), `ping`, to which an app whose loop turns says `pong`, and
`count`, to which it says `counted` with the calls and connections of its gRPC port. When the line breaks, the other
side is gone.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from infermesh.errors import ConfigError

READY: Final = "ready"
FAILED: Final = "failed"
SERVING: Final = "serving"
DRAIN: Final = "drain"
CLOSE: Final = "close"
PING: Final = "ping"
PONG: Final = "pong"
COUNT: Final = "count"
COUNTED: Final = "counted"


class SupervisorEnd:
    """Waits for the app and tells it what to do."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._server: asyncio.Server | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._first: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._serving = asyncio.Event()
        self._answered = asyncio.Event()
        self._counted: asyncio.Future[tuple[int, int]] | None = None

    async def open(self) -> None:
        """Listens. Raises ConfigError if the path is too long for a socket."""
        try:
            self._server = await asyncio.start_unix_server(self._accept, str(self._socket))
        except OSError as error:
            raise ConfigError(f"can't open a socket at {self._socket}: {error}; set TMPDIR to a short path") from error

    async def ready(self) -> str:
        """Returns the address of the app's gRPC port, or nothing, when the app is ready. Raises ConfigError with its
        reason if it can't start."""
        word, _, rest = (await self._first).partition(" ")
        if word != READY:
            raise ConfigError(f"gateway: the app did not start: {rest}")
        return rest

    async def serving(self) -> None:
        """Returns once the app knows where to send calls."""
        await self._serving.wait()

    async def answers(self, timeout: float) -> bool:
        """Tells whether the app gives a sign of life within `timeout` seconds. One question at a time."""
        self._answered.clear()
        self.say(PING)
        try:
            async with asyncio.timeout(timeout):
                await self._answered.wait()
        except TimeoutError:
            return False
        return True

    async def count(self, timeout: float) -> tuple[int, int]:
        """Returns how many calls are under way on the gRPC port, and how many connections are open; none if the app
        does not say within `timeout` seconds. One question at a time."""
        self._counted = counted = asyncio.get_running_loop().create_future()
        self.say(COUNT)
        await asyncio.wait([counted], timeout=timeout)
        return counted.result() if counted.done() else (0, 0)

    def say(self, word: str) -> None:
        """Tells the app something; does nothing when it is gone."""
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(f"{word}\n".encode())

    async def close(self) -> None:
        """Hangs up."""
        await _hang_up(self._writer)
        if self._server is not None:
            self._server.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        line = (await reader.readline()).decode().strip()
        if not self._first.done():
            self._first.set_result(line)
        while line := (await reader.readline()).decode().strip():
            if line == SERVING:
                self._serving.set()
            elif line == PONG:
                self._answered.set()
            elif line.startswith(COUNTED) and self._counted is not None and not self._counted.done():
                _, calls, connections = line.split()
                self._counted.set_result((int(calls), int(connections)))


class AppEnd:
    """Tells the supervisor how the app is, and calls back for what it says."""

    def __init__(self, socket: Path, on: Mapping[str, Callable[[], None]], on_lost: Callable[[], None]) -> None:
        self._socket = socket
        self._on = on
        self._on_lost = on_lost
        self._writer: asyncio.StreamWriter | None = None
        self._listener: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Connects."""
        reader, self._writer = await asyncio.open_unix_connection(str(self._socket))
        self._listener = asyncio.create_task(self._listen(reader))

    def say(self, line: str) -> None:
        """Tells the supervisor something."""
        if self._writer is not None:
            self._writer.write(f"{' '.join(line.split())}\n".encode())

    async def close(self) -> None:
        """Hangs up, without calling back."""
        if self._listener is not None:
            self._listener.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._listener
        await _hang_up(self._writer)

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            self._on.get(line.decode().strip(), _nothing)()
        self._on_lost()


async def _hang_up(writer: asyncio.StreamWriter | None) -> None:
    if writer is not None:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def _nothing() -> None:
    """Stands in for words of a newer supervisor."""
