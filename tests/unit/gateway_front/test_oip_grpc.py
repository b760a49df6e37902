"""The gRPC form over a scripted core."""

import asyncio

import grpc
import pytest
from google.longrunning import operations_pb2
from google.protobuf.empty_pb2 import Empty

from infermesh.errors import AlreadyExists, FailedPrecondition, LoadFailed, NotFound, Overloaded
from infermesh.gateway.frontends.oip import describe
from infermesh.gateway.stats import TargetStats
from infermesh.mesh import status
from infermesh.oip.v2 import grpc_service_pb2 as oip
from infermesh.v1 import deployment_pb2, model_pb2, model_service_pb2
from infermesh.v1.worker_pb2 import HeldVersion
from tests.unit.gateway_front.parts import House, Script, echo
from tests.unit.gateway_front.routes_of import deployment, snapshot, version
from tests.unit.gateway_front.wire import DISCONNECT, Wire, body, framed, scope

S = "/inference.GRPCInferenceService/"


@pytest.fixture
def house():
    return House(snapshot(deployment()), "oip_grpc")


async def ask(house, method, request, response):
    answer = await house.rpc(S + method, request)
    assert answer.code == 0, answer.text
    return response.FromString(answer.messages[0])


class TestInfer:
    async def test_passes_the_bytes_on_as_they_came(self, house):
        request = oip.ModelInferRequest(model_name="digits", model_version="prod", id="7")
        headers = (("grpc-timeout", "5S"), ("traceparent", "00-1-2-01"), ("tracestate", "a=b"))
        answer = await house.rpc(S + "ModelInfer", request, headers=headers)
        (call,) = house.dispatcher.calls
        assert call.payload == request.SerializeToString()
        assert (call.deployment, call.version) == ("digits", "prod")
        assert (call.traceparent, call.tracestate) == ("00-1-2-01", "a=b")
        left = call.deadline - asyncio.get_running_loop().time()
        assert 0 < left <= 5
        assert answer.messages == [echo(call)]

    async def test_a_caller_who_goes_away_cancels_the_call(self, house):
        future = asyncio.get_running_loop().create_future()
        house.dispatcher.on_call = lambda call: future
        wire = Wire(body(framed(oip.ModelInferRequest(model_name="digits").SerializeToString())))
        running = asyncio.ensure_future(house.front(scope(S + "ModelInfer"), wire.receive, wire.send))
        while not house.dispatcher.calls:  # noqa: ASYNC110
            await asyncio.sleep(0)
        wire.put(DISCONNECT)
        await running
        assert future.cancelled()

    @pytest.mark.parametrize("data", [b"\xff", b"\x0a\x09m", b"\x0a\x01\xff", b""])
    async def test_refuses_what_is_no_request(self, house, data):
        answer = await house.rpc(S + "ModelInfer", data)
        assert answer.code == 3
        assert house.dispatcher.calls == []


class TestDescriptions:
    async def test_live_and_ready(self, house):
        assert (await ask(house, "ServerLive", oip.ServerLiveRequest(), oip.ServerLiveResponse)).live
        assert not (await ask(house, "ServerReady", oip.ServerReadyRequest(), oip.ServerReadyResponse)).ready
        house.health.set("", True)
        assert (await ask(house, "ServerReady", oip.ServerReadyRequest(), oip.ServerReadyResponse)).ready

    @pytest.mark.parametrize(
        ("name", "number", "ready"),
        [
            ("digits", "", True),
            ("digits", "2", True),
            ("digits", "prod", True),
            ("digits", "1", False),
            ("digits", "3", False),
            ("digits", "9", False),
            ("nope", "", False),
        ],
    )
    async def test_model_ready(self, house, name, number, ready):
        request = oip.ModelReadyRequest(name=name, version=number)
        assert (await ask(house, "ModelReady", request, oip.ModelReadyResponse)).ready is ready

    async def test_server_metadata(self, house):
        message = await ask(house, "ServerMetadata", oip.ServerMetadataRequest(), oip.ServerMetadataResponse)
        assert message.name == "infermesh"
        assert tuple(message.extensions) == describe.EXTENSIONS

    async def test_model_metadata_and_config_speak_of_the_same_tensors(self, house):
        metadata = await ask(house, "ModelMetadata", oip.ModelMetadataRequest(name="digits"), oip.ModelMetadataResponse)
        config = await ask(house, "ModelConfig", oip.ModelConfigRequest(name="digits"), oip.ModelConfigResponse)
        assert {t.name for t in metadata.inputs} == {t.name for t in config.config.input}
        assert [list(t.shape[1:]) for t in metadata.inputs] == [list(t.dims) for t in config.config.input]

    @pytest.mark.parametrize("method", ["ModelMetadata", "ModelConfig", "ModelStatistics"])
    @pytest.mark.parametrize(
        ("name", "number", "code"),
        [
            ("nope", "", grpc.StatusCode.NOT_FOUND),
            ("digits", "9", grpc.StatusCode.NOT_FOUND),
            ("digits", "1", grpc.StatusCode.UNAVAILABLE),
            ("digits", "3", grpc.StatusCode.FAILED_PRECONDITION),
        ],
    )
    async def test_what_cannot_be_described(self, house, method, name, number, code):
        answer = await house.rpc(S + method, oip.ModelMetadataRequest(name=name, version=number))
        assert answer.code == code.value[0]
        assert name in answer.text

    @pytest.mark.parametrize(
        "method",
        [
            "SystemSharedMemoryRegister",
            "CudaSharedMemoryStatus",
            "SystemSharedMemoryUnregister",
            "TraceSetting",
            "LogSettings",
        ],
    )
    async def test_what_is_not_served_says_so(self, house, method):
        answer = await house.rpc(S + method, b"")
        assert answer.code == 12
        assert "not served" in answer.text


class TestStatistics:
    async def test_come_from_the_workers_that_hold_the_model(self, house):
        held = oip.ModelStatistics(name="digits", version="2", inference_count=5)
        other = oip.ModelStatistics(name="else", version="1", inference_count=5)
        house.worker.answers[S + "ModelStatistics"] = lambda r: oip.ModelStatisticsResponse(model_stats=[held, other])
        request = oip.ModelStatisticsRequest(name="digits")
        message = await ask(house, "ModelStatistics", request, oip.ModelStatisticsResponse)
        assert [(m.name, m.version, m.inference_count) for m in message.model_stats] == [("digits", "2", 5)]

    async def test_of_all_models(self):
        house = House(snapshot(deployment("a"), deployment("b", [version("1", HeldVersion.LOADING, ())])), "oip_grpc")
        house.worker.answers[S + "ModelStatistics"] = lambda r: oip.ModelStatisticsResponse()
        message = await ask(house, "ModelStatistics", oip.ModelStatisticsRequest(), oip.ModelStatisticsResponse)
        assert [(m.name, m.version) for m in message.model_stats] == [("a", "2")]

    async def test_what_the_gateway_refused_failed(self, house):
        held = oip.ModelStatistics(name="digits", version="2")
        held.inference_stats.fail.count = 3
        house.worker.answers[S + "ModelStatistics"] = lambda r: oip.ModelStatisticsResponse(model_stats=[held])
        house.stats.append(TargetStats("digits", "2", refused=4))
        request = oip.ModelStatisticsRequest(name="digits")
        message = await ask(house, "ModelStatistics", request, oip.ModelStatisticsResponse)
        assert [m.inference_stats.fail.count for m in message.model_stats] == [7]

    async def test_need_a_worker_that_answers(self, house):
        answer = await house.rpc(S + "ModelStatistics", oip.ModelStatisticsRequest(name="digits"))
        assert answer.code == 14


class TestStream:
    async def rpc(self, house, *requests, headers=()):
        answer = await house.rpc(S + "ModelStreamInfer", *requests, headers=headers)
        return answer, [oip.ModelStreamInferResponse.FromString(m) for m in answer.messages]

    def request(self, number, **more):
        return oip.ModelInferRequest(model_name="digits", id=str(number), **more)

    async def test_one_response_for_each_request_in_their_order(self, house):
        answer, found = await self.rpc(house, *(self.request(n) for n in range(300)))
        assert answer.code == 0
        assert [m.infer_response.id for m in found] == [str(n) for n in range(300)]
        assert all(m.infer_response.parameters["triton_final_response"].bool_param for m in found)

    async def test_an_error_leaves_the_others_be(self, house):
        house.dispatcher.on_call = lambda call: Overloaded("full") if b"1" in call.payload else echo(call)
        answer, found = await self.rpc(house, *(self.request(n) for n in range(3)), b"\xff")
        assert answer.code == 0
        assert [m.error_message for m in found][:3] == ["", "full", ""]
        assert "not a ModelInferRequest" in found[3].error_message
        assert found[1].infer_response.id == "1"

    async def test_several_responses_and_which_is_the_last(self, house):
        house.dispatcher.script = lambda call: [echo(call)] * 3
        _, found = await self.rpc(house, self.request(1))
        finals = [m.infer_response.parameters["triton_final_response"].bool_param for m in found]
        assert finals == [False, False, True]

    @pytest.mark.parametrize("wanted", [False, True])
    async def test_an_end_without_a_response_is_told_if_wanted(self, house, wanted):
        house.dispatcher.script = lambda call: [echo(call)]
        house.dispatcher.ends_empty = True
        request = self.request(1)
        request.parameters["triton_enable_empty_final_response"].bool_param = wanted
        _, found = await self.rpc(house, request)
        finals = [m.infer_response.parameters["triton_final_response"].bool_param for m in found]
        assert finals == ([False, True] if wanted else [False])
        assert found[-1].infer_response.id == "1"

    async def test_a_slow_single_answer_does_not_hold_up_a_streaming_one(self, house):
        scripted, held = house.dispatcher.stream, []

        def stream(call):
            if held:
                asyncio.get_running_loop().call_later(0.01, held[0].play)
                return scripted(call)
            held.append(Script(call, [echo(call)]))
            return held[0].pending

        house.dispatcher.stream = stream
        house.dispatcher.script = lambda call: [echo(call)] * 2
        _, found = await self.rpc(house, self.request(1), self.request(2))
        order = [m.infer_response.parameters["triton_final_response"].bool_param for m in found]
        assert order == [False, True, True]
        assert [m.infer_response.id for m in found] == ["2", "2", "1"]

    async def test_an_idle_stream_ends_when_the_gateway_drains(self, house):
        wire = Wire(body(framed(self.request(1).SerializeToString()), more=True))
        running = asyncio.ensure_future(house.front(scope(S + "ModelStreamInfer"), wire.receive, wire.send))
        while len(wire.answer.events) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0)
        house.front.close()
        await running
        wire.answer.check_order()
        assert wire.answer.code == 14
        assert len(wire.answer.messages) == 1

    async def test_a_draining_stream_answers_what_it_has_first(self, house):
        held = []

        def stream(call):
            held.append(Script(call, [echo(call)]))
            return held[0].pending

        house.dispatcher.stream = stream
        wire = Wire(body(framed(self.request(1).SerializeToString()), more=True))
        running = asyncio.ensure_future(house.front(scope(S + "ModelStreamInfer"), wire.receive, wire.send))
        for _ in range(10):
            await asyncio.sleep(0)
        house.front.close()
        for _ in range(10):
            await asyncio.sleep(0)
        assert not running.done()
        held[0].play()
        await running
        assert (len(wire.answer.messages), wire.answer.code) == (1, 14)

    async def test_nothing_asked_nothing_answered(self, house):
        answer, found = await self.rpc(house)
        assert (answer.code, found) == (0, [])


def repository(house, done=True, error=None, exists=False):
    """Scripts the registry: versions 1 and 2 of `digits`, and a deployment that becomes ready or fails."""

    def operation(request):
        found = operations_pb2.Operation(name="operations/1", done=done)
        if error is not None:
            found.error.CopyFrom(status.to_status(error))
        elif done:
            ready = deployment_pb2.VersionStatus(version="2", ready_replicas=1)
            found.response.Pack(deployment_pb2.Deployment(name="deployments/digits", versions=[ready]))
        return found

    def create(request):
        if exists:
            raise AlreadyExists("taken")
        return operation(request)

    def versions(request):
        numbers = (1, 2) if request.parent == "models/digits" else (10, 9)
        named = [model_pb2.ModelVersion(name=f"{request.parent}/versions/{n}") for n in numbers]
        return model_service_pb2.ListModelVersionsResponse(versions=named)

    models = [model_pb2.Model(name="models/digits"), model_pb2.Model(name="models/other")]
    first = model_service_pb2.ListModelsResponse(models=models[:1], next_page_token="t")
    last = model_service_pb2.ListModelsResponse(models=models[1:])
    house.registry.answers |= {
        "/infermesh.v1.ModelService/ListModels": lambda r: last if r.page_token else first,
        "/infermesh.v1.ModelService/ListModelVersions": versions,
        "/infermesh.v1.DeploymentService/CreateDeployment": create,
        "/infermesh.v1.DeploymentService/UpdateDeployment": operation,
        "/infermesh.v1.DeploymentService/DeleteDeployment": lambda r: Empty(),
        "/google.longrunning.Operations/WaitOperation": operation,
    }


class TestRepository:
    async def index(self, house, **more):
        request = oip.RepositoryIndexRequest(**more)
        message = await ask(house, "RepositoryIndex", request, oip.RepositoryIndexResponse)
        return [(m.name, m.version, m.state) for m in message.models]

    async def test_the_index_has_what_is_routed_and_what_is_only_registered(self, house):
        repository(house)
        assert await self.index(house) == [
            ("digits", "1", "LOADING"),
            ("digits", "2", "READY"),
            ("digits", "3", "UNAVAILABLE"),
            ("other", "9", "UNAVAILABLE"),
            ("other", "10", "UNAVAILABLE"),
        ]
        assert await self.index(house, ready=True) == [("digits", "2", "READY")]

    async def test_the_index_does_without_the_registry(self, house):
        assert [row[:2] for row in await self.index(house)] == [("digits", "1"), ("digits", "2"), ("digits", "3")]

    @pytest.mark.parametrize("exists", [False, True])
    async def test_load_deploys_the_latest_version(self, house, exists):
        repository(house, exists=exists)
        request = oip.RepositoryModelLoadRequest(model_name="digits")
        message = await ask(house, "RepositoryModelLoad", request, oip.RepositoryModelLoadResponse)
        assert message.is_loaded
        path, sent = house.registry.asked[-1]
        assert path.endswith("UpdateDeployment" if exists else "CreateDeployment")
        assert [(t.version, t.weight) for t in sent.deployment.traffic] == [("latest", 100)]

    async def test_load_in_kserves_form(self, house):
        repository(house)
        message = await ask(
            house,
            "RepositoryModelLoad",
            oip.RepositoryModelLoadRequest(repository_name="digits"),
            oip.RepositoryModelLoadResponse,
        )
        assert (message.model_name, message.is_loaded) == ("digits", True)

    @pytest.mark.parametrize("error", [LoadFailed("tensor 'y' differs"), NotFound.of("model", "digits")])
    async def test_load_fails_with_the_reason(self, house, error):
        repository(house, error=error)
        answer = await house.rpc(S + "RepositoryModelLoad", oip.RepositoryModelLoadRequest(model_name="digits"))
        assert answer.text == error.message
        assert answer.code in (5, 9)

    async def test_load_ends_with_the_deadline(self, house):
        repository(house, done=False)
        request = oip.RepositoryModelLoadRequest(model_name="digits")
        answer = await house.rpc(S + "RepositoryModelLoad", request, headers=(("grpc-timeout", "20m"),))
        assert answer.code == 4

    async def test_load_with_files_is_not_served(self, house):
        request = oip.RepositoryModelLoadRequest(model_name="digits")
        request.parameters["config"].string_param = "{}"
        assert (await house.rpc(S + "RepositoryModelLoad", request)).code == 12

    @pytest.mark.parametrize("name", ["", "Upper", "../x", "a" * 64])
    async def test_load_of_no_good_id(self, house, name):
        repository(house)
        request = oip.RepositoryModelLoadRequest(model_name=name)
        assert (await house.rpc(S + "RepositoryModelLoad", request)).code == 3
        assert house.registry.asked == []

    async def test_unload_deletes_the_deployment_and_waits_for_the_routes(self, house):
        repository(house)
        house.registry.answers["/infermesh.v1.DeploymentService/DeleteDeployment"] = lambda r: house.routes.apply(
            snapshot()
        )
        request = oip.RepositoryModelUnloadRequest(model_name="digits")
        message = await ask(house, "RepositoryModelUnload", request, oip.RepositoryModelUnloadResponse)
        assert message.is_unloaded

    async def test_unload_passes_on_why_not(self, house):
        def refuse(request):
            raise FailedPrecondition("no")

        house.registry.answers["/infermesh.v1.DeploymentService/DeleteDeployment"] = refuse
        answer = await house.rpc(S + "RepositoryModelUnload", oip.RepositoryModelUnloadRequest(model_name="digits"))
        assert (answer.code, answer.text) == (9, "no")
