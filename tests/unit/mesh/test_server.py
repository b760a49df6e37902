"""Servers of the mesh over real sockets: errors in all four arities, health, drain, and the process around them."""

import asyncio
import json
import os
import signal
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from infermesh.errors import BadTensor, ConfigError, MeshError, NotReady
from infermesh.health.v1 import health_pb2 as pb
from infermesh.mesh import health, server, status
from infermesh.mesh.channel import connect
from infermesh.mesh.config import ProcessConfig
from infermesh.mesh.process import Process

ARITIES = ["unary_unary", "unary_stream", "stream_unary", "stream_stream"]


class Service:
    """Raises `error` in whatever way it is called."""

    def __init__(self, error: Exception | None) -> None:
        self.error = error

    async def one(self, request: Any, context: Any) -> bytes:
        if not isinstance(request, bytes):
            request = b"".join([part async for part in request])
        if self.error:
            raise self.error
        return bytes(request)

    async def many(self, request: Any, context: Any) -> AsyncIterator[bytes]:
        if not isinstance(request, bytes):
            request = b"".join([part async for part in request])
        yield b"first"
        if self.error:
            raise self.error

    async def abort(self, request: bytes, context: Any) -> bytes:
        await context.abort(grpc.StatusCode.OUT_OF_RANGE, "its own words")
        return b""

    async def through_context(self, request: Any, context: Any) -> None:
        async for _ in request:  # a client that is still sending may miss how its call ended
            pass
        await context.write(b"first")
        if self.error:
            raise self.error

    def handlers(self) -> Any:
        methods = {
            arity: getattr(grpc, f"{arity}_rpc_method_handler")(self.one if arity.endswith("unary") else self.many)
            for arity in ARITIES
        }
        methods["abort"] = grpc.unary_unary_rpc_method_handler(self.abort)
        methods["context"] = grpc.stream_stream_rpc_method_handler(self.through_context)
        return grpc.method_handlers_generic_handler("test.Service", methods)


async def start(service: Service) -> tuple[grpc.aio.Server, grpc.aio.Channel]:
    grpc_server = server.create_server()
    grpc_server.add_generic_rpc_handlers((service.handlers(),))
    return grpc_server, connect(await server.bind(grpc_server, "127.0.0.1:0"))


async def ask(channel: grpc.aio.Channel, arity: str, method: str = "") -> list[bytes]:
    call = getattr(channel, arity)(f"/test.Service/{method or arity}")
    request = b"ab" if arity.startswith("unary") else iter([b"a", b"b"])
    if arity.endswith("unary"):
        return [await call(request)]
    return [part async for part in call(request)]


@pytest.mark.parametrize("arity", ARITIES)
async def test_an_error_of_the_tree_keeps_all_it_says(arity: str) -> None:
    grpc_server, channel = await start(Service(BadTensor.of("x", "FP32[4]", "FP32[5]")))
    async with channel:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await ask(channel, arity)
        got = status.from_rpc_error(raised.value)
        assert type(got) is BadTensor
        assert got.metadata == {"tensor": "x", "expected": "FP32[4]", "got": "FP32[5]"}
    await grpc_server.stop(None)


@pytest.mark.parametrize("arity", ARITIES)
async def test_any_other_error_is_hidden(arity: str) -> None:
    grpc_server, channel = await start(Service(RuntimeError("secret")))
    async with channel:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await ask(channel, arity)
        assert raised.value.code() is grpc.StatusCode.INTERNAL
        assert "secret" not in repr(raised.value)
        assert "request id" in (raised.value.details() or "")
    await grpc_server.stop(None)


@pytest.mark.parametrize("arity", ARITIES)
async def test_without_an_error_nothing_changes(arity: str) -> None:
    grpc_server, channel = await start(Service(None))
    async with channel:
        assert await ask(channel, arity) == ([b"ab"] if arity.endswith("unary") else [b"first"])
        assert await ask(channel, "stream_stream", "context") == [b"first"]
    await grpc_server.stop(None)


async def test_a_handler_that_aborts_keeps_its_code() -> None:
    grpc_server, channel = await start(Service(None))
    async with channel:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await ask(channel, "unary_unary", "abort")
        assert (raised.value.code(), raised.value.details()) == (grpc.StatusCode.OUT_OF_RANGE, "its own words")
    await grpc_server.stop(None)


async def test_a_handler_that_writes_through_its_context_is_covered_too() -> None:
    grpc_server, channel = await start(Service(NotReady("loading", retry_after=3)))
    async with channel:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await ask(channel, "stream_stream", "context")
        assert status.from_rpc_error(raised.value).retry_after == 3
    await grpc_server.stop(None)


async def test_a_taken_address_is_a_config_error() -> None:
    grpc_server, _ = await start(Service(None))
    other = server.create_server()
    taken = await server.bind(other, "127.0.0.1:0")
    with pytest.raises(ConfigError, match="listen"):
        await server.bind(server.create_server(), taken)
    await grpc_server.stop(None)
    await other.stop(None)


def health_calls(channel: grpc.aio.Channel) -> tuple[Any, Any, Any]:
    codec = {"request_serializer": lambda m: m.SerializeToString()}
    check, response = "/grpc.health.v1.Health/", pb.HealthCheckResponse.FromString
    return (
        channel.unary_unary(check + "Check", response_deserializer=response, **codec),
        channel.unary_unary(check + "List", response_deserializer=pb.HealthListResponse.FromString, **codec),
        channel.unary_stream(check + "Watch", response_deserializer=response, **codec),
    )


async def test_health_tells_what_it_was_told() -> None:
    state, grpc_server = health.Health(), server.create_server()
    health.add_to_server(state, grpc_server)
    async with connect(await server.bind(grpc_server, "127.0.0.1:0")) as channel:
        check, list_, watch = health_calls(channel)
        assert (await check(pb.HealthCheckRequest())).status == pb.HealthCheckResponse.NOT_SERVING
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await check(pb.HealthCheckRequest(service="nobody"))
        assert raised.value.code() is grpc.StatusCode.NOT_FOUND
        stream = watch(pb.HealthCheckRequest(service="later"))
        assert (await stream.read()).status == pb.HealthCheckResponse.SERVICE_UNKNOWN
        state.set("later", True)
        assert (await stream.read()).status == pb.HealthCheckResponse.SERVING
        assert set((await list_(pb.HealthListRequest())).statuses) == {"", "readiness", "liveness", "later"}
        state.stop()
        assert (await stream.read()).status == pb.HealthCheckResponse.NOT_SERVING
        stream.cancel()
    await grpc_server.stop(None)


async def test_readiness_follows_the_whole_and_liveness_outlives_it() -> None:
    state = health.Health()
    names = ("", health.READINESS, health.LIVENESS)
    assert [state.serving(name) for name in names] == [False, False, True]
    state.set("", True)
    assert [state.serving(name) for name in names] == [True, True, True]
    state.stop()
    assert [state.serving(name) for name in names] == [False, False, True]
    state.set(health.LIVENESS, False)  # stuck, and back again, also while it drains
    assert not state.serving(health.LIVENESS)
    state.set(health.LIVENESS, True)
    assert [state.serving(name) for name in names] == [False, False, True]


async def test_a_process_lives_from_ready_to_sigterm(tmp_path: Path) -> None:
    ready = tmp_path / "ready.json"
    async with Process("worker", ProcessConfig(ready_file=str(ready))) as process:
        assert not ready.exists()
        await process.ready(grpc="127.0.0.1:1")
        told = json.loads(ready.read_text())
        assert (told["pid"], told["room"], told["addresses"]["grpc"]) == (os.getpid(), "worker", "127.0.0.1:1")
        async with connect(told["addresses"]["health"]) as channel:
            check, _, watch = health_calls(channel)
            assert (await check(pb.HealthCheckRequest())).status == pb.HealthCheckResponse.SERVING
            stream = watch(pb.HealthCheckRequest())
            assert (await stream.read()).status == pb.HealthCheckResponse.SERVING
            os.kill(os.getpid(), signal.SIGTERM)
            await process.until_stopped()
            assert (await stream.read()).status == pb.HealthCheckResponse.NOT_SERVING
        url = f"http://{told['addresses']['metrics']}/metrics"
        page = await asyncio.to_thread(lambda: urllib.request.urlopen(url).read().decode())
        assert "process_cpu_seconds_total" in page
    assert not ready.exists()


async def test_a_process_with_a_taken_address_says_which() -> None:
    with pytest.raises(ConfigError, match="metrics_listen"):
        async with Process("worker", ProcessConfig(metrics_listen="127.0.0.1:notaport")):
            pass


async def test_calls_are_counted_by_method_and_code() -> None:
    async with Process("worker", ProcessConfig()) as process:
        grpc_server = process.create_server()
        grpc_server.add_generic_rpc_handlers((Service(MeshError("x")).handlers(),))
        async with connect(await server.bind(grpc_server, "127.0.0.1:0")) as channel:
            with pytest.raises(grpc.aio.AioRpcError):
                await ask(channel, "unary_unary")
        await grpc_server.stop(10)  # a call is counted when it is over here, too: perhaps after the client has heard
        count = process.metrics.get_sample_value(
            "infermesh_rpc_seconds_count", {"method": "/test.Service/unary_unary", "code": "INTERNAL"}
        )
        assert count == 1
