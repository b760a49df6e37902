"""The server's end: takes connections, and the calls that come on them."""

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable, Mapping
from typing import Final

import grpc
import structlog

from infermesh.errors import ConfigError
from infermesh.mesh.http2 import frames
from infermesh.mesh.http2.connection import Connection, Life
from infermesh.mesh.http2.frames import Code, ConnectionFault
from infermesh.mesh.http2.stream import Events, Field, Fields, Stream
from infermesh.mesh.tls import Certificates

LIFE: Final = Life(interval=20.0, patience=5.0, unacknowledged=5.0)
_HANDSHAKE: Final = 5.0  # seconds
_MOST_STREAMS: Final = 100
_BACKLOG: Final = 128
_SHORT: Final = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_PAUSE: Final = 1.0  # seconds until more connections are tried while the system has no room for one

RESPONSE: Final[tuple[Field, ...]] = ((b":status", b"200"), (b"content-type", b"application/grpc"))
Method = Callable[[Stream], Events]
"""Takes a call that has begun, and returns who hears of it. It sends `RESPONSE` first, and ends it by `trailers`."""


def trailers(code: grpc.StatusCode, message: str = "") -> tuple[Field, ...]:
    """Returns what ends a response."""
    text = "".join(c if " " <= c <= "~" and c != "%" else "".join(f"%{b:02X}" for b in c.encode()) for c in message)
    return ((b"grpc-status", b"%d" % code.value[0]), *(((b"grpc-message", text.encode()),) if text else ()))


class ServerConnection(Connection):
    """A connection that was accepted. `methods` are by path; `among` are all that are open."""

    def __init__(self, methods: Mapping[bytes, Method], among: "set[ServerConnection]", life: Life = LIFE) -> None:
        super().__init__(life)
        self._methods, self._among = methods, among
        self._preface = frames.PREFACE
        self._last = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greets the client."""
        super().connection_made(transport)
        self._among.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends all calls."""
        self._among.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Acts on frames, which come after the preface."""
        if self._preface:
            wanted, got = self._preface[: len(data)], data[: len(self._preface)]
            if got != wanted:
                self.abort("it does not speak HTTP/2")
                return
            data, self._preface = data[len(got) :], self._preface[len(got) :]
        super().data_received(data)

    def began(self, number: int, fields: Fields, end: bool) -> None:
        """Takes a call."""
        if number <= self._last:
            return  # the end of one that is over here
        if not number % 2:
            raise ConnectionFault.of(Code.PROTOCOL_ERROR, f"a call: expected an odd number, got {number}")
        self._last = number
        stream = self.add(number)
        method = self._methods.get(fields.get(b":path", b""))
        if len(self.streams) > _MOST_STREAMS:
            stream.reset(Code.REFUSED_STREAM)
        elif method is None or not fields.get(b"content-type", b"").startswith(b"application/grpc"):
            path = fields.get(b":path", b"").decode("latin-1")[:200]
            stream.finish((*RESPONSE, *trailers(grpc.StatusCode.UNIMPLEMENTED, f"unknown method '{path}'")))
        else:
            stream.events = method(stream)
            stream.take_headers(fields, end)


class Server:
    """Listens, from when it is entered until it is left; then every connection is closed."""

    def __init__(
        self,
        listen: str,
        methods: Mapping[str, Method],
        certificates: Certificates | None = None,
        *,
        life: Life = LIFE,
    ) -> None:
        """With `certificates` it speaks TLS, and to clients that show a certificate only."""
        self._listen = listen
        self._methods = {path.encode(): method for path, method in methods.items()}
        self._certificates = certificates
        self._life = life
        self._connections: set[ServerConnection] = set()
        self._exits = contextlib.AsyncExitStack()
        self.address = ""
        """host:port that it got."""

    async def __aenter__(self) -> "Server":
        """Begins to listen. Raises ConfigError if the address can't be had."""
        host, _, port = self._listen.rpartition(":")
        plain = host.removeprefix("[").removesuffix("]")
        family = socket.AF_INET6 if ":" in plain else socket.AF_INET
        try:
            listener = socket.create_server((plain, int(port)), family=family, backlog=_BACKLOG)
        except (OSError, ValueError) as error:
            text = f"listen: can't bind {self._listen}: is it taken? Choose another, or port 0 for any"
            raise ConfigError(text) from error
        listener.setblocking(False)
        self.address = f"{host}:{listener.getsockname()[1]}"
        self._exits.callback(listener.close)
        self._exits.callback(self._close)
        tasks = await self._exits.enter_async_context(asyncio.TaskGroup())
        accepting = tasks.create_task(self._accept(listener, tasks), name=f"accept {self.address}")
        self._exits.callback(accepting.cancel)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exits.aclose()

    def _close(self) -> None:
        for connection in [*self._connections]:
            connection.close("this process stops")

    async def _accept(self, listener: socket.socket, tasks: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, _ = await loop.sock_accept(listener)
            except OSError as error:
                if error.errno not in _SHORT:
                    continue  # a connection that was gone before it was taken
                structlog.get_logger(__name__).error("can't accept a connection", error=error.strerror)
                await asyncio.sleep(_PAUSE)
            else:
                tasks.create_task(self._admit(accepted))

    async def _admit(self, accepted: socket.socket) -> None:
        loop, certificates = asyncio.get_running_loop(), self._certificates
        made = ServerConnection(self._methods, self._connections, self._life)
        try:
            if certificates is None:
                await loop.connect_accepted_socket(lambda: made, accepted)
            else:
                context = certificates.context(server=True)
                await loop.connect_accepted_socket(
                    lambda: made, accepted, ssl=context, ssl_handshake_timeout=_HANDSHAKE
                )
        except OSError as error:  # also one without a certificate, or who said nothing for too long
            accepted.close()
            structlog.get_logger(__name__).info("connection refused", error=str(error))
        except Exception as error:  # a fault of ours must not end the other connections
            accepted.close()
            structlog.get_logger(__name__).error("connection not taken", exc_info=error)
