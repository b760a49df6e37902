"""The load's own HTTP/2 client against a real gRPC server, and its frames by themselves."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

import grpc
import hpack
import pytest

from infermesh.errors import NotFound, NotReady, Overloaded
from infermesh.loadgen.caller import INFER, Caller, Ends, request_headers
from infermesh.loadgen.connection import LATE
from infermesh.loadgen.recording import OK
from infermesh.mesh.http2 import frames
from infermesh.mesh.status import to_status

Answer = Callable[[bytes, grpc.aio.ServicerContext], Awaitable[bytes]]


class Server(grpc.GenericRpcHandler):
    """A gRPC server that answers as `answer` does; it remembers how many calls it had at most."""

    def __init__(self, **limits: int) -> None:
        self.most = self.now = 0
        self._options = [(f"grpc.{name}", value) for name, value in limits.items()]

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        return grpc.unary_unary_rpc_method_handler(self._answer) if details.method == INFER else None

    async def _answer(self, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            return await self.answer(request, context)
        finally:
            self.now -= 1

    async def answer(self, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        return request

    async def start(self, address: str = "127.0.0.1:0") -> str:
        self._server = grpc.aio.server(
            handlers=[self], options=[("grpc.max_receive_message_length", -1), *self._options]
        )
        port = self._server.add_insecure_port(address)
        await self._server.start()
        return f"127.0.0.1:{port}"

    async def stop(self, grace: float | None = None) -> None:
        await self._server.stop(grace)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    made.address = await made.start()
    yield made
    await made.stop()


async def test_calls_are_answered_on_every_connection(server: Server) -> None:
    caller = Caller(server.address, [b"a", b"b" * 300], connections=3)
    await caller.open(5)

    assert await asyncio.gather(*(caller.call(n, 5) for n in range(200))) == [OK] * 200
    await caller.close()


async def test_a_message_larger_than_every_window_goes_through_and_so_does_its_answer(server: Server) -> None:
    caller = Caller(server.address, [bytes(5_000_000), bytes(70_000)])

    assert await asyncio.gather(*(caller.call(n, 20) for n in range(6))) == [OK] * 6
    await caller.close()


async def test_a_failure_has_code_and_reason(server: Server) -> None:
    async def refuse(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        status = to_status(Overloaded("too much", retry_after=1.0))
        context.set_trailing_metadata([("grpc-status-details-bin", status.SerializeToString())])
        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too much")

    server.answer = refuse
    caller = Caller(server.address, [b"a"])

    assert await caller.call(0, 5) == "RESOURCE_EXHAUSTED OVERLOADED"
    with pytest.raises(Overloaded, match="too much") as caught:
        await caller.open(5)
    assert caught.value.retry_after == 1.0
    await caller.close()


async def test_a_plain_failure_has_the_reason_of_its_code(server: Server) -> None:
    async def refuse(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        await context.abort(grpc.StatusCode.NOT_FOUND, "no such")

    server.answer = refuse
    caller = Caller(server.address, [b"a"])

    assert await caller.call(0, 5) == "NOT_FOUND NOT_FOUND"
    with pytest.raises(NotFound, match="no such"):
        await caller.open(5)
    await caller.close()


async def test_a_call_without_an_answer_ends_at_its_deadline_and_is_cancelled_at_the_server(server: Server) -> None:
    ended: Counter[str] = Counter()

    async def sleep(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        try:
            await asyncio.sleep(60)
        finally:
            ended["yes"] += 1
        return b""

    server.answer = sleep
    caller = Caller(server.address, [b"a"])

    end = await caller.call(0, 0.05)
    assert end in (LATE, "DEADLINE_EXCEEDED DEADLINE_EXCEEDED")  # whichever side notices first
    for _ in range(200):
        if ended:
            break
        await asyncio.sleep(0.01)
    assert ended["yes"] == 1
    await caller.close()


async def test_no_more_streams_than_the_server_takes() -> None:
    server = Server(max_concurrent_streams=5)
    address = await server.start()

    async def rest(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        await asyncio.sleep(0.005)
        return request

    server.answer = rest
    caller = Caller(address, [b"a"])
    await caller.open(5)

    assert await asyncio.gather(*(caller.call(n, 10) for n in range(60))) == [OK] * 60
    assert server.most <= 5
    await caller.close()
    await server.stop()


async def test_a_server_that_closes_and_comes_back_costs_no_call_that_it_had_not_begun() -> None:
    server = Server()
    address = await server.start()
    caller = Caller(address, [b"a"])
    await caller.open(5)
    began = asyncio.Event()

    async def slow(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        began.set()
        await asyncio.sleep(0.1)
        return request

    server.answer = slow
    under_way = asyncio.create_task(caller.call(0, 5))
    await began.wait()
    await server.stop(grace=5)
    assert await under_way == OK

    assert await caller.call(0, 5) == "UNAVAILABLE NOT_CONNECTED"
    await server.start(address)
    assert await caller.call(0, 5) == OK
    await caller.close()
    await server.stop()


async def test_nobody_there() -> None:
    caller = Caller("127.0.0.1:1", [b"a"])

    with pytest.raises(NotReady, match=r"nobody listens at 127\.0\.0\.1:1"):
        await caller.open(5)
    await caller.close()


def block(*fields: tuple[str, str]) -> bytes:
    return hpack.Encoder().encode(fields)


@pytest.mark.parametrize(
    ("came", "answered", "end"),
    [
        (block(("grpc-status", "0")), True, OK),
        (block(("grpc-status", "0")), False, "INTERNAL NO_MESSAGE"),
        (b"", True, "INTERNAL NO_STATUS"),
        (block((":status", "503")), False, "UNAVAILABLE HTTP_503"),
        (block(("grpc-status", "14"), ("grpc-status-details-bin", "not base64!")), False, "UNAVAILABLE NOT_READY"),
        (block(("grpc-status", "99")), False, "UNKNOWN INTERNAL"),
    ],
)
def test_ends(came: bytes, answered: bool, end: str) -> None:
    ends = Ends()

    assert [ends(came, answered), ends(came, answered)] == [end, end]


def test_a_server_understands_the_headers() -> None:
    headers = hpack.Decoder().decode(request_headers("h:1", "/p" * 200) + frames.literal(b"grpc-timeout", b"5m"))

    assert headers[:4] == [(":method", "POST"), (":scheme", "http"), (":path", "/p" * 200), (":authority", "h:1")]
    assert headers[-1] == ("grpc-timeout", "5m")
