"""The server's end: takes connections, and the calls that come on them."""

import asyncio
import contextlib
import errno
import socket
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Generic, TypeVar

import grpc
import structlog

from infermesh.errors import ConfigError
from infermesh.mesh.http2 import frames
from infermesh.mesh.http2.connection import Connection
from infermesh.mesh.http2.fields import Field, Headers
from infermesh.mesh.http2.frames import Code, ConnectionFault
from infermesh.mesh.http2.life import Life
from infermesh.mesh.http2.stream import Events, Stream
from infermesh.mesh.tls import Certificates

LIFE: Final = Life(interval=20.0, patience=5.0, unacknowledged=5.0)
_MOST_STREAMS: Final = 100
_BACKLOG: Final = 4_096  # as far as the system lets it: one that is full makes clients wait for a second
_SHORT: Final = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_PAUSE: Final = 1.0  # seconds until more connections are tried while the system has no room for one
_FAREWELL: Final = 1.0  # seconds that connections have to send what was written, and to end TLS


@dataclass(frozen=True, slots=True)
class Terms:
    """What a server lets clients take: connections that may be open, and seconds for a TLS handshake."""

    connections: int
    handshake: float


TERMS: Final = Terms(connections=10_000, handshake=5.0)

RESPONSE: Final[tuple[Field, ...]] = ((b":status", b"200"), (b"content-type", b"application/grpc"))
Method = Callable[[Stream], Events]
"""Takes a call that has begun, and returns who hears of it. It sends `RESPONSE` first, and ends it by `trailers`."""


def trailers(code: grpc.StatusCode, message: str = "") -> tuple[Field, ...]:
    """Returns what ends a response."""
    text = "".join(c if " " <= c <= "~" and c != "%" else "".join(f"%{b:02X}" for b in c.encode()) for c in message)
    return ((b"grpc-status", b"%d" % code.value[0]), *(((b"grpc-message", text.encode()),) if text else ()))


class Accepted(Connection):
    """A connection that was accepted; `among` are all that are open. Base of what takes the calls on it."""

    def __init__(self, among: set[Any], life: Life) -> None:
        super().__init__(life)
        self._among = among
        self._preface = frames.PREFACE
        self.gone = self._loop.create_future()
        """Done once nothing is left of the connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Takes the connection. The client speaks first: it may speak something else."""
        super().connection_made(transport)
        self._among.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends all calls."""
        self._among.discard(self)
        super().connection_lost(exc)
        self.gone.set_result(None)

    def data_received(self, data: bytes) -> None:
        """Acts on frames, which come after the preface."""
        if self._preface:
            wanted, got = self._preface[: len(data)], data[: len(self._preface)]
            if got != wanted:
                self.foreign(data)
                return
            data, self._preface = data[len(got) :], self._preface[len(got) :]
            if not self._preface:
                self.greet()
        super().data_received(data)

    def foreign(self, data: bytes) -> None:
        """Ends a connection that begins with something else than HTTP/2."""
        self.abort("it does not speak HTTP/2")

    def began(self, number: int, fields: Headers, end: bool) -> None:
        """Takes a call."""
        if number <= self._last:
            return  # the end of one that is over here
        if not number % 2:
            raise ConnectionFault.of(Code.PROTOCOL_ERROR, f"a call: expected an odd number, got {number}")
        self._last = number
        self.called(number, fields, end)

    @abstractmethod
    def called(self, number: int, fields: Headers, end: bool) -> None:
        """Takes a call, whose request has ended already if `end`."""


class ServerConnection(Accepted):
    """A connection for calls of `methods`, by path."""

    def __init__(self, methods: Mapping[bytes, Method], among: "set[ServerConnection]", life: Life = LIFE) -> None:
        super().__init__(among, life)
        self._methods = methods

    def called(self, number: int, fields: Headers, end: bool) -> None:
        """Takes a call."""
        stream = Stream(self, number, self.first_window)
        method = self._methods.get(fields.get(b":path", b""))
        self.add(stream)
        if len(self.streams) > _MOST_STREAMS:
            stream.reset(Code.REFUSED_STREAM)
        elif method is None or not fields.get(b"content-type", b"").startswith(b"application/grpc"):
            path = fields.get(b":path", b"").decode("latin-1")[:200]
            stream.finish((*RESPONSE, *trailers(grpc.StatusCode.UNIMPLEMENTED, f"unknown method '{path}'")))
        else:
            stream.events = method(stream)
            stream.take_headers(fields, end)


C = TypeVar("C", bound=Accepted)
Make = Callable[[set[C]], C]
"""Makes what takes the calls of a connection; it is given the set of those that are open."""


def accepting(methods: Mapping[str, Method], life: Life = LIFE) -> Make[ServerConnection]:
    """Returns what has a server serve methods by their paths."""
    return partial(ServerConnection, {path.encode(): method for path, method in methods.items()}, life=life)


class Server(Generic[C]):
    """Listens, from when it is entered until it is left; then every connection is closed, and waited for."""

    def __init__(
        self,
        listen: str,
        make: Make[C],
        certificates: Certificates | None = None,
        terms: Terms = TERMS,
        *,
        setting: str = "listen",
    ) -> None:
        """With `certificates` it speaks TLS, and to clients that show one only if they name who must have signed it.

        `setting` is what `listen` is called where it is set.
        """
        self._setting = setting
        self._listen = listen
        self._make = make
        self._certificates = certificates
        self._terms = terms
        self._admitting = 0
        self._listening: tuple[socket.socket, asyncio.Task[None]] | None = None
        self.connections: set[C] = set()
        """Those that are open."""
        self._exits = contextlib.AsyncExitStack()
        self.address = ""
        """host:port that it got."""

    async def __aenter__(self) -> "Server[C]":
        """Begins to listen. Raises ConfigError if the address can't be had."""
        host, _, port = self._listen.rpartition(":")
        plain = host.removeprefix("[").removesuffix("]")
        family = socket.AF_INET6 if ":" in plain else socket.AF_INET
        try:
            listener = socket.create_server((plain, int(port)), family=family, backlog=_BACKLOG)
        except (OSError, ValueError) as error:
            text = f"{self._setting}: can't bind {self._listen}: is it taken? Choose another, or port 0 for any"
            raise ConfigError(text) from error
        listener.setblocking(False)
        self.address = f"{host}:{listener.getsockname()[1]}"
        self._exits.push_async_callback(self._close)
        tasks = await self._exits.enter_async_context(asyncio.TaskGroup())
        accepting = tasks.create_task(self._accept(listener, tasks), name=f"accept {self.address}")
        self._exits.callback(self.shut)
        self._listening = (listener, accepting)
        return self

    def shut(self) -> None:
        """Takes no new connections any more. Idempotent."""
        if self._listening is not None:
            (listener, accepting), self._listening = self._listening, None
            accepting.cancel()
            listener.close()

    async def __aexit__(self, *_: object) -> None:
        await self._exits.aclose()

    async def _close(self) -> None:
        why, open_ = "this process stops", [*self.connections]
        for connection in open_:
            connection.close(why)
        if open_:
            _, stuck = await asyncio.wait([connection.gone for connection in open_], timeout=_FAREWELL)
            for connection in self.connections.copy():
                connection.abort(why)
            await asyncio.gather(*stuck)

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
                if len(self.connections) + self._admitting < self._terms.connections:
                    self._admitting += 1
                    tasks.create_task(self._admit(accepted))
                else:
                    accepted.close()

    async def _admit(self, accepted: socket.socket) -> None:
        loop, log, secure = asyncio.get_running_loop(), structlog.get_logger(__name__), dict[str, Any]()
        try:
            if self._certificates is not None:
                context = self._certificates.context(server=True)
                secure = {"ssl": context, "ssl_handshake_timeout": self._terms.handshake}
            await loop.connect_accepted_socket(lambda: self._make(self.connections), accepted, **secure)
        except OSError as error:  # also one without a certificate, or who said nothing for too long
            accepted.close()
            log.info("connection refused", error=str(error))
        except Exception as error:  # a fault of ours must not end the other connections
            accepted.close()
            log.error("connection not taken", exc_info=error)
        finally:
            self._admitting -= 1
