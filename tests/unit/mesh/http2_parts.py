"""Two ends of an HTTP/2 connection in memory, and what is heard of a call."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from infermesh.mesh.http2.client import ClientConnection
from infermesh.mesh.http2.connection import Connection
from infermesh.mesh.http2.frames import Bytes
from infermesh.mesh.http2.life import Life
from infermesh.mesh.http2.outgoing import Fields
from infermesh.mesh.http2.server import ServerConnection
from infermesh.mesh.http2.stream import Stream

PATH = "/test.Service/Call"
CALM = Life(interval=1e6, patience=1e6, unacknowledged=1.0)


class Heard:
    """Notes what the other end of a stream does."""

    def __init__(self) -> None:
        self.fields: list[dict[bytes, bytes]] = []
        self.messages: list[bytes] = []
        self.over = 0
        self.why = ""

    def headers(self, fields: Fields) -> None:
        self.fields.append(dict(fields))

    def message(self, data: bytes) -> None:
        assert type(data) is bytes
        self.messages.append(data)

    def ended(self) -> None:
        self.over += 1

    def lost(self, why: str) -> None:
        assert not self.why
        self.why = why


class Transport(asyncio.Transport):
    """Carries what is written to the other end, in pieces, in the next turn of the loop; may be full."""

    def __init__(self, to: Callable[[bytes], None], cut: int = 1 << 30) -> None:
        super().__init__()
        self.sent = b""
        self.open = True
        self._to, self._cut = to, cut

    def write(self, data: Bytes) -> None:  # type: ignore[override]
        assert self.open
        self.sent += data
        for at in range(0, len(data), self._cut):
            asyncio.get_running_loop().call_soon(self._to, bytes(data[at : at + self._cut]))

    def writelines(self, parts: Iterable[Bytes]) -> None:  # type: ignore[override]
        self.write(b"".join(parts))

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def is_closing(self) -> bool:
        return not self.open

    def close(self) -> None:
        self.open = False

    abort = close


@dataclass
class Pair:
    """A client and a server that speak to each other; `calls` are those that came, with what was heard of each."""

    cut: int = 1 << 30
    life: Life = CALM
    calls: list[tuple[Stream, Heard]] = field(default_factory=list)

    def __post_init__(self) -> None:
        def method(stream: Stream) -> Heard:
            heard = Heard()
            self.calls.append((stream, heard))
            return heard

        self.client = ClientConnection("h:1", "http", self.life)
        self.server = ServerConnection({PATH.encode(): method}, set(), self.life)
        self.up, self.down = self._wired(self.server), self._wired(self.client)
        self.client.connection_made(self.up)
        self.server.connection_made(self.down)

    def _wired(self, to: Connection) -> Transport:
        def take(data: bytes) -> None:
            if to._transport is not None and not to._transport.is_closing():
                to.data_received(data)

        return Transport(take, self.cut)

    def call(self, path: str = PATH) -> tuple[Stream, Heard]:
        """Begins a call."""
        stream, heard = self.client.call(path), Heard()
        stream.events = heard
        return stream, heard


async def turns(count: int = 50) -> None:
    """Lets what was sent arrive."""
    for _ in range(count):
        await asyncio.sleep(0)
