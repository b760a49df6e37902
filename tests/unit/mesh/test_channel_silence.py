"""A channel whose peer goes on taking everything, and answers nothing any more."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc.aio
import pytest

from infermesh.mesh import channel, server

_TENTH = ("grpc.keepalive_time_ms", "grpc.http2.ping_timeout_ms")


@asynccontextmanager
async def passing_on(upstream: str, silent: asyncio.Event) -> AsyncIterator[str]:
    """Yields an address whose connections are passed on to `upstream`; nothing more comes back once it is silent."""

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(1 << 16):
            if not silent.is_set():
                sink.write(data)
        sink.close()

    connections: set[asyncio.Task[None] | None] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(asyncio.current_task())
        ends = [writer]
        try:
            host, _, port = upstream.rpartition(":")
            there, back = await asyncio.open_connection(host, int(port))
            ends.append(back)
            await asyncio.gather(pump(reader, back), pump(there, writer), return_exceptions=True)
        finally:
            for end in ends:
                end.close()
            await asyncio.gather(*(end.wait_closed() for end in ends), return_exceptions=True)

    relay = await asyncio.start_server(accept, "127.0.0.1", 0)
    async with relay:
        yield "{}:{}".format(*relay.sockets[0].getsockname())
    left = [task for task in connections if task is not None]
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


async def test_a_silent_peer_is_given_up_within_seven_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    options = dict(channel.OPTIONS)
    assert sum(options[name] for name in _TENTH) <= 7_000
    quick = [(name, value // 10 if name in _TENTH else value) for name, value in channel.OPTIONS]
    monkeypatch.setattr(channel, "OPTIONS", quick)
    grpc_server, silent = server.create_server(), asyncio.Event()

    async def begin(request: bytes, context: grpc.aio.ServicerContext) -> None:
        await context.write(b"first")
        await asyncio.sleep(60)

    handler = grpc.unary_stream_rpc_method_handler(begin)
    grpc_server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Service", {"Watch": handler}),))
    async with (
        passing_on(await server.bind(grpc_server, "127.0.0.1:0"), silent) as address,
        channel.connect(address) as connection,
    ):
        stream = connection.unary_stream("/test.Service/Watch")(b"")
        assert await stream.read() == b"first"
        silent.set()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async with asyncio.timeout(20):
                await stream.read()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        await grpc_server.stop(0)
