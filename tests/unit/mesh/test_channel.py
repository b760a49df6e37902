"""How members of the mesh find each other again."""

import asyncio
import socket
from typing import Any

import grpc.aio
import pytest

from infermesh.mesh.channel import connect

_A = 1  # the type of a question for an IPv4 address
_PATIENCE = 15.0  # seconds; gRPC by itself asks for a name at most every 30


class NameServer(asyncio.DatagramProtocol):
    """Answers every question for an IPv4 address with `address`, all others with nothing."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.asked = 0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, peer: Any) -> None:
        end = data.index(b"\0", 12) + 5  # of the question: labels, a zero, type and class
        known = int.from_bytes(data[end - 4 : end - 2]) == _A
        self.asked += known
        head = data[:2] + b"\x81\x80" + b"\0\1" + (b"\0\1" if known else b"\0\0") + bytes(4)
        record = b"\xc0\x0c" + b"\0\1\0\1" + bytes(4) + b"\0\4" + socket.inet_aton(self.address)
        self._transport.sendto(head + data[12:end] + (record if known else b""), peer)


@pytest.mark.parametrize("standing", [False, True], ids=["nobody answered yet", "its peer has moved"])
async def test_a_peer_that_has_another_address_is_found_soon(standing: bool) -> None:
    async def echo(request: bytes, context: object) -> bytes:
        return request

    async def serve(address: str) -> tuple[grpc.aio.Server, int]:
        server = grpc.aio.server()
        handlers = {"Echo": grpc.unary_unary_rpc_method_handler(echo)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test", handlers),))
        port = server.add_insecure_port(address)
        await server.start()
        return server, port

    server, port = await serve("127.0.0.1:0")
    names, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: NameServer("127.0.0.1" if standing else "127.0.0.3"), local_addr=("127.0.0.1", 0)
    )
    resolver: NameServer = names.get_protocol()
    authority = "{}:{}".format(*names.get_extra_info("sockname"))
    async with connect(f"dns://{authority}/peer.test.:{port}") as channel:
        call = channel.unary_unary("/test/Echo")
        first = call(b"1", wait_for_ready=True, timeout=_PATIENCE)
        if standing:
            assert await first == b"1"
            await server.stop(None)
            server, _ = await serve(f"127.0.0.2:{port}")
            resolver.address = "127.0.0.2"
        else:
            while not resolver.asked:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            resolver.address = "127.0.0.1"
            assert await first == b"1"
        assert await call(b"2", wait_for_ready=True, timeout=_PATIENCE) == b"2"
    names.close()
    await server.stop(None)
