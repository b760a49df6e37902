"""The client's end: a connection for calls that stream both ways."""

import asyncio
from typing import Any, Final
from urllib.parse import unquote

from infermesh.mesh.http2 import frames
from infermesh.mesh.http2.connection import Connection
from infermesh.mesh.http2.life import Life
from infermesh.mesh.http2.outgoing import Fields
from infermesh.mesh.http2.stream import Stream
from infermesh.mesh.tls import Certificates

LIFE: Final = Life(interval=1.0, patience=5.0, unacknowledged=1.0)
_HANDSHAKE: Final = 5.0  # seconds


class ClientConnection(Connection):
    """A connection that this end has made, to `authority` (host:port)."""

    greeting = frames.PREFACE

    def __init__(self, authority: str, scheme: str, life: Life = LIFE) -> None:
        super().__init__(life)
        self._authority, self._scheme = authority.encode(), scheme.encode()
        self._next = 1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greets the server."""
        super().connection_made(transport)
        self.greet()

    def call(self, path: str) -> Stream:
        """Begins a call of a method, `/package.Service/Method`; set its `events` before the loop turns."""
        made, self._next = Stream(self, self._next, self.first_window), self._next + 2
        self.add(made)
        made.send_headers(
            [
                (b":method", b"POST"),
                (b":scheme", self._scheme),
                (b":path", path.encode()),
                (b":authority", self._authority),
                (b"te", b"trailers"),
                (b"content-type", b"application/grpc"),
            ]
        )
        return made

    def leaves(self, last: int) -> None:
        """Loses the calls that the server has not looked at; those that it has it will end."""
        for stream in [stream for number, stream in self.streams.items() if number > last]:
            stream.lose("the server takes no more calls")


async def dial(address: str, certificates: Certificates | None = None, life: Life = LIFE) -> ClientConnection:
    """Returns a connection to `address` (host:port). Raises OSError (ssl.SSLError is one); cancel-safe."""
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    secure: dict[str, Any] = {}
    if certificates is not None:
        name = certificates.server_name or host
        secure = {"ssl": certificates.context(server=False), "server_hostname": name}
        secure["ssl_handshake_timeout"] = _HANDSHAKE
    scheme = "https" if secure else "http"
    made = await asyncio.get_running_loop().create_connection(
        lambda: ClientConnection(address, scheme, life), host, int(port), **secure
    )
    return made[1]


def failure(fields: Fields) -> str:
    """Returns what a block of response headers or trailers tells of a failure; empty if it tells of none."""
    status = fields.get(b":status", b"200")
    if status != b"200":
        return f"it answered with HTTP status {status.decode('latin-1')}"
    code = fields.get(b"grpc-status", b"0")
    if code == b"0":
        return ""
    text = unquote(fields.get(b"grpc-message", b"").decode("latin-1"))
    return f"it ended the call with status {code.decode('latin-1')}: {text}"
