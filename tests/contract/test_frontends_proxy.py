"""The mesh's own services through the front door, over a real gRPC server behind it."""

import asyncio

import grpc
import grpc.aio
import pytest
from google.longrunning import operations_pb2

from infermesh.errors import FailedPrecondition
from infermesh.gateway.framing.exchange import Exchange
from infermesh.gateway.framing.frames import Limits
from infermesh.gateway.framing.guard import Guard
from infermesh.gateway.frontends.proxy import ProxyFrontend
from infermesh.mesh import server as mesh_server
from infermesh.mesh import status
from infermesh.mesh.channel import connect
from infermesh.v1 import artifact_service_pb2 as artifacts
from infermesh.v1 import model_service_pb2 as models
from infermesh.v1 import scheduler_service_pb2 as scheduler
from infermesh.v1 import state_service_pb2
from tests.unit.gateway_front.wire import DISCONNECT, Answer, Wire, body, framed, scope

M, A, S = "/infermesh.v1.ModelService/", "/infermesh.v1.ArtifactService/", "/infermesh.v1.SchedulerService/"


class Behind(grpc.GenericRpcHandler):
    """Registry and scheduler in one: remembers what came, answers by the method's name."""

    def __init__(self) -> None:
        self.metadata: dict[str, object] = {}
        self.left: float | None = None
        self.received: list[bytes] = []
        self.cancelled = asyncio.Event()

    def service(self, details):
        return {
            "UploadArtifact": grpc.stream_unary_rpc_method_handler(self.upload),
            "DownloadArtifact": grpc.unary_stream_rpc_method_handler(self.download),
            "WatchRoutes": grpc.unary_stream_rpc_method_handler(self.watch),
        }.get(details.method.rpartition("/")[2], grpc.unary_unary_rpc_method_handler(self.one))

    async def one(self, request, context):
        self.metadata = {key: value for key, value in context.invocation_metadata()}
        self.left = context.time_remaining()
        await context.send_initial_metadata((("x-first", "1"),))
        context.set_trailing_metadata((("x-last-bin", b"\0\1"),))
        if request == b"fail":
            raise FailedPrecondition("the alias 'prod' points at it", metadata={"alias": "prod"})
        if request == b"plain":
            await context.abort(grpc.StatusCode.DATA_LOSS, "gone: 100 %")
        return b"one:" + request

    async def upload(self, requests, context):
        async for request in requests:
            self.received.append(request)
        return artifacts.Upload(received_bytes=sum(map(len, self.received))).SerializeToString()

    async def download(self, request, context):
        for n in range(3):
            yield b"%d" % n
        if request == b"fail":
            raise FailedPrecondition("no more")

    async def watch(self, request, context):
        yield b"now"
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()


@pytest.fixture
async def behind():
    handler = Behind()
    server = mesh_server.create_server()
    server.add_generic_rpc_handlers((handler,))
    handler.address = await mesh_server.bind(server, "127.0.0.1:0")
    yield handler
    await server.stop(0)


@pytest.fixture
async def methods(behind):
    class Parts:
        registry = connect(behind.address)
        scheduler = connect(behind.address)

    yield ProxyFrontend(Parts).methods()
    await Parts.registry.close()
    await Parts.scheduler.close()


async def rpc(methods, path, *messages, headers=(), wire=None) -> Answer:
    wire = wire or Wire(body(framed(*messages)))
    request = scope(path, headers)
    await Exchange(request, wire.receive, wire.send, methods[path], dict(request["headers"]), Guard(Limits())).run()
    return wire.answer


async def test_every_method_of_every_service_is_there_with_its_arity(methods):
    for module in (models, artifacts, scheduler):
        for service in module.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                path = f"/{service.full_name}/{method.name}"
                mounted = methods[path]
                if path != S + "Heartbeat":
                    assert mounted.client_stream == method.client_streaming, path
                assert mounted.server_stream == method.server_streaming, path
    operations = operations_pb2.DESCRIPTOR.services_by_name["Operations"].methods
    assert {f"/google.longrunning.Operations/{m.name}" for m in operations} <= set(methods)


async def test_bytes_metadata_and_deadline_go_on_and_metadata_comes_back(methods, behind):
    headers = (("x-a", "b"), ("y-bin", "AAE"), ("grpc-timeout", "5S"))
    answer = await rpc(methods, M + "GetModel", b"anything", headers=headers)
    answer.check_order()
    assert (answer.code, answer.messages) == (0, [b"one:anything"])
    assert (behind.metadata["x-a"], behind.metadata["y-bin"]) == ("b", b"\0\1")
    assert 0 < behind.left <= 5
    assert answer.headers[b"x-first"] == b"1"
    assert answer.trailers[b"x-last-bin"] == b"AAE"


async def test_no_deadline_stays_none(methods, behind):
    await rpc(methods, M + "GetModel", b"")
    assert behind.left is None


async def test_a_rich_error_comes_back_unchanged(methods):
    answer = await rpc(methods, M + "DeleteModelVersion", b"fail")
    rebuilt = status.from_status(answer.details)
    assert isinstance(rebuilt, FailedPrecondition)
    assert (answer.code, rebuilt.metadata) == (9, {"alias": "prod"})
    assert answer.text == "the alias 'prod' points at it"


async def test_a_plain_error_comes_back_unchanged(methods):
    answer = await rpc(methods, M + "GetModel", b"plain")
    assert (answer.code, answer.text) == (15, "gone: 100 %25")
    assert answer.trailers[b"x-last-bin"] == b"AAE"


async def test_a_stream_of_requests(methods, behind):
    parts = [bytes([n]) * 1000 for n in range(20)]
    wire = Wire(*(body(framed(part), more=True) for part in parts), body(b""))
    answer = await rpc(methods, A + "UploadArtifact", wire=wire)
    assert artifacts.Upload.FromString(answer.messages[0]).received_bytes == 20_000
    assert behind.received == parts


async def test_an_upload_that_breaks_off_is_not_passed_on_as_whole(methods, behind):
    wire = Wire(body(framed(b"part"), more=True))
    running = asyncio.create_task(rpc(methods, A + "UploadArtifact", wire=wire))
    while not behind.received:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    wire.put(DISCONNECT)
    answer = await running
    assert answer.events == []


@pytest.mark.parametrize(("end", "code"), [(b"\x07" + bytes(4), 13), (b"\x00" + b"\x7f" * 4, 8)])
async def test_an_upload_whose_framing_breaks_says_so(methods, end, code):
    answer = await rpc(methods, A + "UploadArtifact", wire=Wire(body(framed(b"part") + end, more=True)))
    answer.check_order()
    assert answer.code == code


async def test_a_stream_of_responses(methods):
    answer = await rpc(methods, A + "DownloadArtifact", b"")
    answer.check_order()
    assert (answer.code, answer.messages) == (0, [b"0", b"1", b"2"])


async def test_a_stream_of_responses_that_fails(methods):
    answer = await rpc(methods, A + "DownloadArtifact", b"fail")
    answer.check_order()
    assert (answer.code, answer.messages) == (9, [b"0", b"1", b"2"])


async def test_a_watch_ends_behind_us_when_its_caller_goes(methods, behind):
    wire = Wire(body(framed(b"")))
    running = asyncio.create_task(rpc(methods, S + "WatchRoutes", wire=wire))
    while len(wire.answer.events) < 2:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    wire.put(DISCONNECT)
    await running
    await asyncio.wait_for(behind.cancelled.wait(), 5)
    assert wire.answer.messages == [b"now"]


async def test_the_deadline_ends_a_watch(methods, behind):
    answer = await rpc(methods, S + "WatchRoutes", b"", headers=(("grpc-timeout", "300m"),))
    answer.check_order()
    assert (answer.code, answer.messages) == (4, [b"now"])


@pytest.mark.parametrize(
    "path", [S + "Heartbeat", *(f"/infermesh.v1.StateService/{m}" for m in ("WatchDesired", "ReportDeployments"))]
)
async def test_what_is_for_members_only_is_refused(methods, path):
    answer = await rpc(methods, path, b"")
    answer.check_order()
    assert answer.code == 7
    assert "for members of the mesh" in answer.text


async def test_every_internal_method_is_known(methods):
    for service in state_service_pb2.DESCRIPTOR.services_by_name.values():
        assert {f"/{service.full_name}/{m.name}" for m in service.methods} <= set(methods)


async def test_a_service_that_is_away(behind):
    class Parts:
        registry = connect("127.0.0.1:1")
        scheduler = registry

    answer = await rpc(ProxyFrontend(Parts).methods(), M + "GetModel", b"")
    await Parts.registry.close()
    assert answer.code == 14
    assert "127.0.0.1" not in answer.text
