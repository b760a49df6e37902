"""One gRPC call over ASGI: every way in which it may go, and go wrong."""

import asyncio
import gzip

import grpc
import pytest

from infermesh.errors import BadTensor, Internal, MeshError, NotFound, Overloaded
from infermesh.gateway.framing import frames
from infermesh.gateway.framing.failure import RpcFailure
from infermesh.gateway.framing.methods import Context, Method, bidi, client_stream, parse, server_stream, unary
from infermesh.health.v1.health_pb2 import HealthCheckRequest as Rq
from infermesh.mesh import status
from infermesh.mesh.status import from_status
from tests.unit.gateway_front.wire import DISCONNECT, Wire, body, call, exchange, framed

OK, CANCELLED, INVALID, LATE, EXHAUSTED, UNIMPLEMENTED, INTERNAL = 0, 1, 3, 4, 8, 12, 13


async def echo(data, context):
    return data


ECHO = Method(echo)


def failing(error: BaseException) -> Method:
    async def fail(data, context):
        raise error

    return Method(fail)


class TestUnary:
    async def test_answers(self):
        answer = await call(ECHO, framed(b"hello"))
        answer.check_order()
        assert answer.messages == [b"hello"]
        assert (answer.status, answer.code) == (200, OK)
        assert answer.headers[b"content-type"] == b"application/grpc"

    async def test_an_empty_message_is_a_message(self):
        answer = await call(ECHO, framed(b""))
        assert answer.messages == [b""]

    async def test_a_request_in_many_chunks(self):
        data = framed(bytes(1000))
        wire = Wire(*(body(data[at : at + 7], more=True) for at in range(0, len(data), 7)), body(b""))
        answer = await exchange(ECHO, wire)
        assert answer.messages == [bytes(1000)]

    async def test_a_whole_frame_whose_end_comes_later(self):
        answer = await exchange(ECHO, Wire(body(framed(b"hello"), more=True), body(b"")))
        assert answer.messages == [b"hello"]

    async def test_the_fast_path_asks_once_more_to_notice_a_disconnect(self):
        wire = Wire(body(framed(b"x")))
        await exchange(ECHO, wire)
        assert wire.asked == 2

    async def test_an_awaitable_that_is_no_coroutine(self):
        def infer(data, context):
            future = asyncio.get_running_loop().create_future()
            future.set_result(data)
            return future

        assert (await call(Method(infer), framed(b"x"))).messages == [b"x"]


class TestMalformed:
    @pytest.mark.parametrize(
        ("data", "headers", "code", "text"),
        [
            (b"", [], UNIMPLEMENTED, "exactly one message, got none"),
            (framed(b"a", b"b"), [], UNIMPLEMENTED, "exactly one message, got more"),
            (framed(b"abc")[:-1], [], INTERNAL, "ended within a message"),
            (b"\x00\x00", [], INTERNAL, "ended within a message"),
            (b"\x07" + bytes(4), [], INTERNAL, "expected flag 0 or 1, got 7"),
            (b"\x01" + bytes(4), [], INTERNAL, "no grpc-encoding"),
            (b"\x01\x00\x00\x00\x03abc", [("grpc-encoding", "gzip")], INTERNAL, "not gzip"),
            (framed(b"a"), [("grpc-encoding", "snappy")], UNIMPLEMENTED, "got 'snappy'"),
            (framed(bytes(101)), [], EXHAUSTED, "at most 100 bytes, got 101"),
            (framed(b"a"), [("grpc-timeout", "-1S")], INVALID, "grpc-timeout"),
            (framed(b"a"), [("grpc-timeout", "soon")], INVALID, "got 'soon'"),
        ],
    )
    async def test_has_its_code_and_says_why(self, data, headers, code, text):
        answer = await call(ECHO, data, *headers, limit=100)
        answer.check_order()
        assert answer.code == code
        assert text in answer.text
        assert answer.messages == []

    async def test_an_oversized_message_is_refused_before_it_has_come(self):
        wire = Wire(body(b"\x00" + (1 << 30).to_bytes(4, "big"), more=True))
        answer = await exchange(ECHO, wire, limit=1 << 20)
        assert answer.code == EXHAUSTED

    async def test_bytes_that_are_no_message(self):
        async def check(request, context):
            raise AssertionError("not reached")

        answer = await call(unary(Rq, check), framed(b"\xff\xff"))
        assert answer.code == INVALID
        assert "not a HealthCheckRequest" in answer.text

    async def test_metadata_that_is_not_base64(self):
        async def look(data, context):
            context.metadata()

        answer = await call(Method(look), framed(b""), ("x-bin", "!"))
        assert answer.code == INVALID

    async def test_the_deadline_zero_has_passed(self):
        async def hang(data, context):
            await asyncio.Event().wait()

        assert (await call(Method(hang), framed(b""), ("grpc-timeout", "0n"))).code == LATE


class TestErrors:
    async def test_travel_with_all_that_they_know(self):
        error = Overloaded("queue of 'digits' is full: 100 % ü", retry_after=1.5, metadata={"limit": "3"})
        answer = await call(failing(error), framed(b""))
        answer.check_order()
        assert answer.code == EXHAUSTED
        assert answer.text == "queue of 'digits' is full: 100 %25 %C3%BC"
        rebuilt = from_status(answer.details)
        assert isinstance(rebuilt, Overloaded)
        assert (rebuilt.retry_after, rebuilt.metadata, rebuilt.message) == (1.5, {"limit": "3"}, error.message)

    async def test_say_which_tensor(self):
        answer = await call(failing(BadTensor.of("x", "FP32", "INT8")), framed(b""))
        assert from_status(answer.details).violations == (("inputs.x", "expected FP32, got INT8"),)

    @pytest.mark.parametrize("error", [RuntimeError("the secret is 42"), Internal("the secret is 42"), KeyError("42")])
    async def test_of_ours_show_a_request_id_only(self, error, capsys):
        answer = await call(failing(error), framed(b""))
        assert answer.code == INTERNAL
        assert "42" not in answer.text.partition("request id")[0]
        assert b"secret" not in answer.details.SerializeToString()
        assert "request id" in answer.text

    async def test_hidden_by_a_peer_keep_its_request_id(self):
        hidden = status.public(ValueError("x"))
        answer = await call(failing(hidden), framed(b""))
        assert answer.text == hidden.message

    async def test_from_elsewhere_go_through_unchanged(self):
        error = RpcFailure(grpc.StatusCode.ABORTED.value[0], "lost", [("x-t", "1"), ("y-bin", b"\0")])
        answer = await call(failing(error), framed(b""))
        assert (answer.code, answer.text) == (10, "lost")
        assert answer.trailers[b"x-t"] == b"1"
        assert answer.trailers[b"y-bin"] == b"AA"

    async def test_after_the_first_message_still_end_with_trailers(self):
        async def two(request, context):
            yield Rq(service="one")
            raise NotFound.of("model", "x")

        answer = await call(server_stream(Rq, two), framed(b""))
        answer.check_order()
        assert answer.messages == [Rq(service="one").SerializeToString()]
        assert answer.code == 5

    @pytest.mark.parametrize("streams", [(False, True), (True, False), (True, True)])
    async def test_of_handlers_in_every_arity(self, streams):
        def fail(request, context):
            raise NotFound.of("model", "x")

        answer = await call(Method(fail, *streams), framed(b""))
        answer.check_order()
        assert answer.code == 5


class TestMetadata:
    async def test_goes_out_at_both_ends(self):
        async def add(data, context: Context):
            context.initial = [("x-first", "1")]
            context.trailing = [("x-last-bin", b"\0\1")]
            return data

        answer = await call(Method(add), framed(b"m"))
        assert answer.headers[b"x-first"] == b"1"
        assert answer.trailers == {b"grpc-status": b"0", b"x-last-bin": b"AAE"}

    async def test_goes_out_with_an_error_too(self):
        async def add(data, context: Context):
            context.initial, context.trailing = [("x-first", "1")], [("x-last", "2")]
            raise NotFound.of("model", "x")

        answer = await call(Method(add), framed(b"m"))
        assert answer.headers[b"x-first"] == b"1"
        assert (answer.trailers[b"x-last"], answer.code) == (b"2", 5)

    async def test_can_be_sent_before_the_first_message(self):
        async def begin(request, context: Context):
            context.initial = [("x-first", "1")]
            await context.start()
            assert wire.answer.headers[b"x-first"] == b"1"
            yield Rq()

        wire = Wire(body(framed(b"")))
        answer = await exchange(server_stream(Rq, begin), wire)
        assert answer.code == OK
        answer.check_order()

    async def test_comes_in(self):
        async def look(data, context: Context):
            assert context.metadata() == [("x-a", "b")]
            assert context.header(b"x-a") == "b"
            return b""

        assert (await call(Method(look), framed(b""), ("x-a", "b"))).code == OK


class TestCompression:
    @pytest.mark.parametrize("encoding", ["gzip", "deflate"])
    async def test_is_answered_in_kind(self, encoding):
        data = frames.encode(bytes(5000), encoding.encode())
        answer = await call(ECHO, data, ("grpc-encoding", encoding), ("grpc-accept-encoding", f"identity,{encoding}"))
        assert answer.messages == [bytes(5000)]
        assert answer.headers[b"grpc-encoding"] == encoding.encode()
        assert len(answer.body) < 500

    async def test_is_left_out_where_the_caller_cannot_read_it(self):
        data = b"\x01" + len(gzip.compress(bytes(5000))).to_bytes(4, "big") + gzip.compress(bytes(5000))
        answer = await call(ECHO, data, ("grpc-encoding", "gzip"), ("grpc-accept-encoding", "identity"))
        assert b"grpc-encoding" not in answer.headers
        assert len(answer.body) == 5005

    async def test_a_message_that_is_not_compressed_may_come_between(self):
        answer = await call(ECHO, framed(b"plain"), ("grpc-encoding", "gzip"))
        assert answer.messages == [b"plain"]


class TestStreams:
    async def test_many_in_one_out(self):
        async def join(requests, context):
            return Rq(service="".join([r.service async for r in requests]))

        data = framed(*(Rq(service=c).SerializeToString() for c in "abc"))
        answer = await call(client_stream(Rq, join), data)
        assert answer.messages == [Rq(service="abc").SerializeToString()]

    async def test_nothing_in_is_allowed_there(self):
        async def count(requests, context):
            return Rq(service=str(len([r async for r in requests])))

        assert (await call(client_stream(Rq, count), b"")).messages == [Rq(service="0").SerializeToString()]

    async def test_an_answer_to_each_before_the_next_is_there(self):
        async def twice(requests, context):
            async for request in requests:
                yield request
                yield request

        wire = Wire(body(framed(b"\x0a\x01a"), more=True))
        running = asyncio.create_task(exchange(bidi(Rq, twice), wire))
        while len(wire.answer.events) < 3:  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert wire.answer.messages == [b"\x0a\x01a"] * 2
        wire.put(body(framed(b"\x0a\x01b")))
        answer = await running
        answer.check_order()
        assert answer.messages == [b"\x0a\x01a"] * 2 + [b"\x0a\x01b"] * 2

    async def test_a_reader_that_does_not_read_holds_the_sender_back(self):
        async def ignore(requests, context):
            for _ in range(50):
                await asyncio.sleep(0)
            return b""

        chunk = framed(bytes(30_000))
        wire = Wire(*(body(chunk, more=True) for _ in range(20)))
        await exchange(Method(ignore, client_stream=True), wire)
        assert wire.asked <= 4

    async def test_an_early_answer_does_not_wait_for_the_rest(self):
        async def first(requests, context):
            return await anext(requests)

        answer = await exchange(Method(first, client_stream=True), Wire(body(framed(b"a", b"b"), more=True)))
        assert (answer.code, answer.messages) == (OK, [b"a"])

    @pytest.mark.parametrize("more", [framed(b"abc")[:-1], b"\x09" + bytes(4)])
    async def test_malformed_within_a_stream(self, more):
        async def echo_all(requests, context):
            async for request in requests:
                yield request

        answer = await call(Method(echo_all, True, True), framed(b"good") + more)
        answer.check_order()
        assert answer.messages == [b"good"]
        assert answer.code == INTERNAL


class Recorder:
    """A handler that hangs and remembers how it ended."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.cancelled = False

    async def one(self, request, context):
        self.began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise

    async def many(self, request, context):
        yield b"first"
        await self.one(request, context)


class TestEndsEarly:
    @pytest.mark.parametrize("client_streams", [False, True])
    @pytest.mark.parametrize("server_streams", [False, True])
    async def test_the_caller_goes_away(self, client_streams, server_streams):
        handler = Recorder()
        run = handler.many if server_streams else handler.one
        wire = Wire(body(framed(b"m")))
        running = asyncio.create_task(exchange(Method(run, client_streams, server_streams), wire))
        await handler.began.wait()
        sent = len(wire.answer.events)
        wire.put(DISCONNECT)
        await running
        assert handler.cancelled
        assert len(wire.answer.events) == sent, "nobody is there to be told"

    @pytest.mark.parametrize("client_streams", [False, True])
    @pytest.mark.parametrize("server_streams", [False, True])
    async def test_the_deadline_passes_while_the_handler_hangs(self, client_streams, server_streams):
        handler = Recorder()
        run = handler.many if server_streams else handler.one
        method = Method(run, client_streams, server_streams)
        answer = await call(method, framed(b"m"), ("grpc-timeout", "10m"))
        answer.check_order()
        assert answer.code == LATE
        assert handler.cancelled

    async def test_the_deadline_passes_while_the_request_is_on_its_way(self):
        answer = await exchange(ECHO, Wire(body(b"\x00\x00", more=True)), ("grpc-timeout", "10m"))
        assert answer.code == LATE

    async def test_a_handler_that_keeps_the_deadline_itself_is_still_not_waited_for_by_slow_senders(self):
        method = Method(echo, keeps_deadline=True)
        answer = await exchange(method, Wire(body(b"\x00\x00", more=True)), ("grpc-timeout", "10m"))
        assert answer.code == LATE

    async def test_a_handler_that_swallows_its_cancelling_is_late_all_the_same(self):
        async def stubborn(data, context):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                return b"late"

        answer = await call(Method(stubborn), framed(b""), ("grpc-timeout", "10m"))
        assert (answer.code, answer.messages) == (LATE, [])

    @pytest.mark.parametrize("client_streams", [False, True])
    async def test_half_a_request_is_never_served(self, client_streams):
        served = []

        async def take(request, context):
            served.extend([r async for r in request] if client_streams else [request])
            return b""

        wire = Wire(body(framed(b"whole"), more=True), DISCONNECT)
        await exchange(Method(take, client_stream=client_streams), wire)
        assert served == []
        assert wire.answer.events == []

    async def test_a_reader_in_a_task_of_its_own_never_sees_a_clean_end(self):
        seen = []

        async def forward(requests, context):
            async def pump():
                try:
                    async for request in requests:
                        seen.append(request)
                    seen.append("end")
                except MeshError as error:
                    seen.append(type(error).__name__)

            await asyncio.gather(pump(), asyncio.Event().wait())

        await exchange(Method(forward, client_stream=True), Wire(body(framed(b"a"), more=True), DISCONNECT))
        for _ in range(3):
            await asyncio.sleep(0)
        assert "end" not in seen

    async def test_a_future_is_cancelled_with_its_call(self):
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        wire = Wire(body(framed(b"m")))
        running = asyncio.create_task(exchange(Method(lambda data, context: future), wire))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        wire.put(DISCONNECT)
        await running
        assert future.cancelled()

    async def test_what_a_handler_awaits_may_be_cancelled_by_others(self):
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        future.cancel()
        answer = await call(Method(lambda data, context: future), framed(b"m"))
        answer.check_order()
        assert answer.code == CANCELLED

    async def test_an_outer_cancelling_is_not_swallowed(self):
        handler = Recorder()
        running = asyncio.create_task(exchange(Method(handler.one), Wire(body(framed(b"m")))))
        await handler.began.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running


def test_a_message_is_parsed_or_the_size_is_told():
    assert parse(Rq, b"\x0a\x01a").service == "a"
    with pytest.raises(MeshError, match="3 bytes"):
        parse(Rq, b"\xff\xff\xff")
