"""HTTP endpoints: bodies, limits, compression, callers who go away, errors."""

import asyncio
import gzip
import json
import zlib

import pytest
from starlette.responses import Response
from starlette.routing import Route

from infermesh.errors import Internal, NotReady
from infermesh.gateway.framing.frames import Limits
from infermesh.gateway.framing.guard import Guard
from infermesh.gateway.framing.methods import Method
from infermesh.gateway.front import Front
from infermesh.gateway.frontends.http import Endpoint, create_http, parse_json, to_json
from tests.unit.gateway_front.wire import DISCONNECT, Answer, Wire, body, framed, scope


async def echo(request, data):
    return Response(data)


def front(handler=echo, limit=1000, methods=None):
    guard = Guard(Limits(limit))
    routes = [Route("/echo/{name}", Endpoint(handler, guard), methods=["POST"])]
    return Front(methods or {}, create_http(routes), guard)


async def ask(app, path="/echo/x", method="POST", data=b"", headers=(), wire=None) -> Answer:
    wire = wire or Wire(body(data))
    raw = [(key.encode(), value.encode()) for key, value in headers]
    request = {"type": "http", "method": method, "path": path, "http_version": "1.1", "headers": raw}
    await app(request | {"query_string": b"", "raw_path": path.encode(), "root_path": ""}, wire.receive, wire.send)
    return wire.answer


def error_of(answer: Answer) -> str:
    assert answer.headers[b"content-type"] == b"application/json"
    return json.loads(answer.body)["error"]


async def test_answers():
    answer = await ask(front(), data=b"hello")
    assert (answer.status, answer.body) == (200, b"hello")


async def test_a_body_in_chunks():
    answer = await ask(front(), wire=Wire(body(b"a", more=True), body(b"b", more=True), body(b"")))
    assert answer.body == b"ab"


@pytest.mark.parametrize(
    ("path", "method", "status"), [("/nope", "GET", 404), ("/echo/x", "GET", 405), ("/", "GET", 404)]
)
async def test_unknown_paths_and_methods_are_json(path, method, status):
    answer = await ask(front(), path, method)
    assert answer.status == status
    assert error_of(answer) == {404: "Not Found", 405: "Method Not Allowed"}[status]


async def test_a_body_above_the_limit_says_limit_and_size():
    answer = await ask(front(limit=10), data=bytes(11))
    assert answer.status == 413
    assert error_of(answer) == "body: expected at most 10 bytes, got 11"


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_compressed_bodies(encoding, pack):
    answer = await ask(front(), data=pack(b"hello"), headers=[("content-encoding", encoding)])
    assert answer.body == b"hello"


@pytest.mark.parametrize(("encoding", "unpack"), [("gzip", gzip.decompress), ("deflate", zlib.decompress)])
async def test_compressed_answers(encoding, unpack):
    answer = await ask(front(limit=5000), data=bytes(4000), headers=[("accept-encoding", f"br, {encoding}")])
    assert unpack(answer.body) == bytes(4000)
    assert answer.headers[b"content-encoding"] == encoding.encode()
    assert answer.headers[b"content-length"] == b"%d" % len(answer.body)


async def test_small_answers_are_left_alone():
    answer = await ask(front(), data=b"hello", headers=[("accept-encoding", "gzip")])
    assert b"content-encoding" not in answer.headers


@pytest.mark.parametrize(
    ("encoding", "data", "status"),
    [("br", b"x", 501), ("gzip", b"not gzip", 400), ("gzip", gzip.compress(bytes(2000), mtime=0), 413)],
)
async def test_bad_compression(encoding, data, status):
    answer = await ask(front(), data=data, headers=[("content-encoding", encoding)])
    assert answer.status == status
    error_of(answer)


async def test_an_error_brings_its_headers():
    async def busy(request, data):
        raise NotReady("still loading", retry_after=2.1)

    answer = await ask(front(busy))
    assert (answer.status, answer.headers[b"retry-after"], error_of(answer)) == (503, b"3", "still loading")


@pytest.mark.parametrize("error", [RuntimeError("secret"), Internal("secret"), ZeroDivisionError()])
async def test_a_fault_of_ours_shows_a_request_id_only(error):
    async def broken(request, data):
        raise error

    answer = await ask(front(broken))
    assert answer.status == 500
    assert "secret" not in error_of(answer)
    assert "request id" in error_of(answer)


async def test_the_handler_ends_when_the_caller_goes_away():
    began, ended = asyncio.Event(), []

    async def hang(request, data):
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append(True)
            raise

    wire = Wire(body(b""))
    running = asyncio.ensure_future(ask(front(hang), wire=wire))
    await began.wait()
    wire.put(DISCONNECT)
    answer = await running
    assert ended == [True]
    assert answer.events == []


async def test_half_a_body_is_never_served():
    async def never(request, data):
        raise AssertionError("not reached")

    answer = await ask(front(never), wire=Wire(body(b"half", more=True), DISCONNECT))
    assert answer.events == []


async def test_a_path_that_speaks_grpc_says_so():
    async def never(data, context):
        raise AssertionError("not reached")

    app = front(methods={"/a.B/C": Method(never)})
    for request in (
        scope("/a.B/C", method="GET"),
        scope("/a.B/C", http_version="1.1"),
        scope("/a.B/C") | {"headers": [(b"content-type", b"application/json")]},
        scope("/a.B/C") | {"headers": [(b"content-type", b"application/grpc-web")]},
    ):
        wire = Wire(body(framed(b"")))
        await app(request, wire.receive, wire.send)
        assert wire.answer.status == 415
        assert "HTTP/2" in error_of(wire.answer)


@pytest.mark.parametrize("path", ["/a.B/X", "/x.Y/C", "/nope"])
async def test_unknown_methods_and_services_are_unimplemented(path):
    async def never(data, context):
        raise AssertionError("not reached")

    wire = Wire(body(framed(b"x"), more=True))
    await front(methods={"/a.B/C": Method(never)})(scope(path), wire.receive, wire.send)
    wire.answer.check_order()
    assert wire.answer.code == 12
    assert "a.B" in wire.answer.text


async def test_calls_that_never_end_are_ended_when_the_front_closes():
    async def watch(data, context):
        yield b"now"
        await asyncio.Event().wait()

    app = front(methods={"/a.B/Watch": Method(watch, server_stream=True, standing=True)})
    wire = Wire(body(framed(b"")))
    running = asyncio.create_task(app(scope("/a.B/Watch"), wire.receive, wire.send))
    while len(wire.answer.events) < 2:  # noqa: ASYNC110
        await asyncio.sleep(0)
    app.close()
    await running
    assert wire.answer.messages == [b"now"]
    assert wire.answer.code == 14
    app.close()


def test_json_bodies():
    assert parse_json(b"") == {}
    assert to_json({"a": float("nan")}).body == b'{"a":NaN}'
    assert to_json({"a": "ü"}).body == '{"a":"ü"}'.encode()
