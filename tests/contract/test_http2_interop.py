"""Our streams on HTTP/2 beside gRPC's own library, each as the other's end: over real sockets, also with TLS."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import grpc
import grpc.aio
import pytest

from infermesh.errors import ConfigError
from infermesh.mesh.config import TlsConfig
from infermesh.mesh.http2.client import ClientConnection, dial, failure
from infermesh.mesh.http2.outgoing import Fields
from infermesh.mesh.http2.server import RESPONSE, Server, accepting, trailers
from infermesh.mesh.http2.stream import Stream
from infermesh.mesh.tls import Certificates, channel_credentials, server_credentials
from tests.tls_files import MEMBER, Authority

PATH = "/test.Service/Echo"
SIZES = [0, 1, 16_379, 16_384, 70_000, 5_000_000]


class Echo:
    """A call that is answered with its own messages, and ends when they do; `fail` ends it otherwise."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.why: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        stream.send_headers(RESPONSE)

    def headers(self, fields: Fields) -> None:
        self.fields = dict(fields)

    def message(self, data: bytes) -> None:
        if data == b"fail":
            self._stream.finish(trailers(grpc.StatusCode.RESOURCE_EXHAUSTED, "zu viel: 100 %"))
        self._stream.send(data)

    def ended(self) -> None:
        self._stream.finish(trailers(grpc.StatusCode.OK))

    def lost(self, why: str) -> None:
        self.why.set_result(why)


class Reader:
    """Gathers what a server says."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[bytes] = asyncio.Queue()
        self.end: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._last: Fields = {}

    def headers(self, fields: Fields) -> None:
        self._last = fields

    def message(self, data: bytes) -> None:
        self.messages.put_nowait(data)

    def ended(self) -> None:
        self.end.set_result(failure(self._last))

    def lost(self, why: str) -> None:
        self.end.set_result(f"lost: {why}")


@asynccontextmanager
async def our_server(certificates: Certificates | None = None) -> AsyncIterator[tuple[str, list[Echo]]]:
    """Serves the echo by our own server; yields its address and the calls."""
    calls: list[Echo] = []

    def method(stream: Stream) -> Echo:
        calls.append(Echo(stream))
        return calls[-1]

    async with Server("127.0.0.1:0", accepting({PATH: method}), certificates) as server:
        yield server.address, calls


@asynccontextmanager
async def their_server(certificates: Certificates | None = None) -> AsyncIterator[tuple[str, None]]:
    """Serves the echo by gRPC's library; yields its address."""

    async def echo(requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        async for request in requests:
            if request == b"fail":
                await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "zu viel: 100 %")
            yield request

    unlimited = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    server = grpc.aio.server(options=unlimited)
    handler = grpc.stream_stream_rpc_method_handler(echo)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Service", {"Echo": handler}),))
    if certificates is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        port = server.add_secure_port("127.0.0.1:0", server_credentials(certificates))
    await server.start()
    yield f"127.0.0.1:{port}", None
    await server.stop(None)


def their_channel(address: str, certificates: Certificates | None = None) -> grpc.aio.Channel:
    """Returns a channel of gRPC's library."""
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    if certificates is None:
        return grpc.aio.insecure_channel(address, options=options)
    named = [*options, ("grpc.ssl_target_name_override", MEMBER)]
    return grpc.aio.secure_channel(address, channel_credentials(certificates.latest()), options=named)


@asynccontextmanager
async def our_call(address: str, certificates: Certificates | None = None) -> AsyncIterator[tuple[Stream, Reader]]:
    """Makes a call by our own client."""
    connection: ClientConnection = await dial(address, certificates)
    reader, stream = Reader(), connection.call(PATH)
    stream.events = reader
    yield stream, reader
    connection.close()


@pytest.fixture(params=[our_server, their_server], ids=["our server", "gRPC's server"])
def server(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Opens a server."""
    return request.param  # type: ignore[no-any-return]


async def test_our_client_gets_every_message_back(server: Any) -> None:
    async with server() as (address, _), our_call(address) as (stream, reader), asyncio.timeout(30):
        for size in SIZES:
            stream.send(b"x" * size)
        for size in SIZES:
            assert await reader.messages.get() == b"x" * size
        await stream.drained()
        stream.finish()
        assert await reader.end == ""


async def test_our_client_hears_how_a_call_failed(server: Any) -> None:
    async with server() as (address, _), our_call(address) as (stream, reader), asyncio.timeout(30):
        stream.send(b"fail")
        assert await reader.end == "it ended the call with status 8: zu viel: 100 %"


async def test_many_large_messages_at_once_stall_nobody(server: Any) -> None:
    async with server() as (address, _), our_call(address) as (stream, reader), asyncio.timeout(60):
        for number in range(40):
            stream.send(bytes([number]) * 1_000_000)
        for number in range(40):
            message = await reader.messages.get()
            assert (len(message), message[:1]) == (1_000_000, bytes([number]))


async def test_a_server_that_stops_is_noticed(server: Any) -> None:
    async with asyncio.timeout(30):
        async with server() as (address, _):
            connection = await dial(address)
            reader, stream = Reader(), connection.call(PATH)
            stream.events = reader
            stream.send(b"x")
            await reader.messages.get()
        assert await reader.end


async def test_grpcs_client_gets_every_message_back_from_our_server() -> None:
    async with our_server() as (address, calls), their_channel(address) as channel, asyncio.timeout(30):
        call = channel.stream_stream(PATH)()
        for size in SIZES:
            await call.write(b"x" * size)
            assert await call.read() == b"x" * size
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        assert await call.code() is grpc.StatusCode.OK
        assert calls[0].fields[b"user-agent"].startswith(b"grpc-python")


async def test_grpcs_client_hears_how_a_call_failed() -> None:
    async with our_server() as (address, _), their_channel(address) as channel, asyncio.timeout(30):
        call = channel.stream_stream(PATH)()
        await call.write(b"fail")
        assert await call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert await call.details() == "zu viel: 100 %"
        unknown = channel.stream_stream("/test.Service/Nothing")()
        assert await unknown.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_our_server_hears_that_a_caller_has_gone() -> None:
    async with our_server() as (address, calls), their_channel(address) as channel, asyncio.timeout(30):
        call = channel.stream_stream(PATH)()
        await call.write(b"x")
        await call.read()
        call.cancel()
        assert "reset" in await calls[0].why


def certificates(folder: Path, authority: Authority) -> Certificates:
    return Certificates(TlsConfig(**authority.issue("tls"), server_name=MEMBER), "tls")


async def test_with_certificates_both_ends_speak_tls_with_either_library(server: Any, tmp_path: Path) -> None:
    shown = certificates(tmp_path, Authority(tmp_path))
    async with server(shown) as (address, _), asyncio.timeout(30):
        async with our_call(address, shown) as (stream, reader):
            stream.send(b"x" * 1_000_000)
            assert await reader.messages.get() == b"x" * 1_000_000
        async with their_channel(address, shown) as channel:
            call = channel.stream_stream(PATH)()
            await call.write(b"x" * 100_000)
            assert await call.read() == b"x" * 100_000
            call.cancel()


async def test_who_shows_no_certificate_or_a_strangers_is_not_let_in(tmp_path: Path) -> None:
    shown = certificates(tmp_path, Authority(tmp_path / "ours"))
    stranger = certificates(tmp_path, Authority(tmp_path / "theirs"))
    async with our_server(shown) as (address, calls), asyncio.timeout(30):
        for other in (None, stranger):
            try:
                async with our_call(address, other) as (stream, reader):
                    stream.send(b"x")
                    assert (await reader.end).startswith("lost")
            except OSError:
                pass  # it knows that server as little
        assert calls == []
        async with our_call(address, shown) as (stream, reader):
            stream.send(b"x")
            assert await reader.messages.get() == b"x"


async def test_a_call_on_a_connection_that_has_ended_is_lost() -> None:
    async with our_server() as (address, _):
        connection = await dial(address)
        stream = connection.call(PATH)
        stream.events = before = Reader()
    async with asyncio.timeout(30):
        assert (await before.end).startswith("lost")
        stream = connection.call(PATH)
        stream.events = reader = Reader()
        assert await reader.end == await before.end


@pytest.mark.parametrize("with_tls", [False, True])
async def test_a_server_that_is_left_leaves_nothing_behind_even_of_who_never_reads(
    tmp_path: Path, with_tls: bool
) -> None:
    shown = certificates(tmp_path, Authority(tmp_path)) if with_tls else None
    async with asyncio.timeout(30):
        server = Server("127.0.0.1:0", accepting({PATH: Echo}), shown)
        async with server:
            healthy, silent = await dial(server.address, shown), await dial(server.address, shown)
            reader, stream = Reader(), silent.call(PATH)
            stream.events = reader
            stream.send(b"x")
            await reader.messages.get()
            cast(asyncio.Transport, silent._transport).pause_reading()  # its kernel still takes what comes
            connections = list(server.connections)
            assert len(connections) == 2
        assert not server.connections
        assert all(connection.gone.done() for connection in connections)
        silent.abort("the test is over")
        healthy.close()


async def test_a_connection_that_fails_by_a_fault_of_ours_ends_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown, faults = certificates(tmp_path, Authority(tmp_path)), [RuntimeError("a fault of ours")]
    context = shown.context

    def faulty(*, server: bool) -> ssl.SSLContext:
        if server and faults:
            raise faults.pop()
        return context(server=server)

    monkeypatch.setattr(shown, "context", faulty)
    async with our_server(shown) as (address, _), asyncio.timeout(30):
        with pytest.raises(OSError):  # noqa: PT011  # reset or closed, as it comes
            async with our_call(address, shown):
                pass
        async with our_call(address, shown) as (stream, reader):
            stream.send(b"x")
            assert await reader.messages.get() == b"x"


async def test_renewed_certificates_are_used_by_connections_made_later(tmp_path: Path) -> None:
    now = 0.0
    authority = Authority(tmp_path / "ours")
    shown = Certificates(TlsConfig(**authority.issue("tls"), server_name=MEMBER), "tls", clock=lambda: now)
    async with our_server(shown) as (address, _), our_call(address, shown) as (old, heard), asyncio.timeout(30):
        before = shown.context(server=True)
        authority.become(Authority(tmp_path / "new"))
        authority.issue("tls")
        now = 10.0
        assert shown.context(server=True) is not before
        assert shown.context(server=True) is shown.context(server=True)
        async with our_call(address, shown) as (stream, reader):
            stream.send(b"new")
            assert await reader.messages.get() == b"new"
        old.send(b"old")
        assert await heard.messages.get() == b"old"


async def test_an_address_that_is_taken_is_refused_with_the_setting() -> None:
    async with our_server() as (address, _):
        with pytest.raises(ConfigError, match=r"listen: can't bind .* Choose another"):
            async with Server(address, accepting({})):
                pass
