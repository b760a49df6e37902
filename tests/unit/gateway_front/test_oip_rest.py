"""The REST form over a scripted core."""

import asyncio
import gzip
import json

import numpy as np
import pytest

from infermesh.errors import LoadFailed, NotReady
from infermesh.oip.v2 import grpc_service_pb2 as oip
from infermesh.v1.model_pb2 import Signature
from infermesh.v1.tensor_pb2 import TensorSpec
from tests.unit.gateway_front.parts import House
from tests.unit.gateway_front.routes_of import deployment, snapshot, version
from tests.unit.gateway_front.test_oip_grpc import repository

LENGTH = "inference-header-content-length"


@pytest.fixture
def house():
    return House(snapshot(deployment()), "oip_rest")


async def ask(house, method, path, content=None, status=200):
    answer = await house.http(method, path, b"" if content is None else json.dumps(content).encode())
    assert answer.status == status, answer.body
    assert answer.headers[b"content-type"] == b"application/json"
    return json.loads(answer.body)


def request(**more):
    return {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [[1.5, 2]]}]} | more


class TestInfer:
    @pytest.mark.parametrize(
        ("path", "number"), [("/v2/models/digits/infer", ""), ("/v2/models/digits/versions/2/infer", "2")]
    )
    async def test_json_in_json_out(self, house, path, number):
        content = await ask(house, "POST", path, request(id="7"))
        assert content == {
            "model_name": "digits",
            "model_version": "2",
            "id": "7",
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [1.5, 2.0]}],
        }
        (call,) = house.dispatcher.calls
        assert (call.deployment, call.version, call.deadline) == ("digits", number, None)

    async def test_binary_in_binary_out(self, house):
        raw = np.array([1.5, 2], "<f4").tobytes()
        head = {
            "inputs": [{"name": "x", "shape": [2], "datatype": "FP32", "parameters": {"binary_data_size": 8}}],
            "parameters": {"binary_data_output": True},
        }
        data = json.dumps(head).encode()
        answer = await house.http("POST", "/v2/models/digits/infer", data + raw, ((LENGTH, str(len(data))),))
        assert answer.headers[b"content-type"] == b"application/octet-stream"
        length = int(answer.headers[LENGTH.encode()])
        output = json.loads(answer.body[:length])["outputs"][0]
        assert output["parameters"] == {"binary_data_size": 8}
        assert answer.body[length:] == raw

    async def test_compressed_binary_counts_the_length_after_inflating(self, house):
        head = json.dumps(
            {"inputs": [{"name": "x", "shape": [2], "datatype": "UINT8", "parameters": {"binary_data_size": 2}}]}
        ).encode()
        headers = ((LENGTH, str(len(head))), ("content-encoding", "gzip"))
        answer = await house.http("POST", "/v2/models/digits/infer", gzip.compress(head + b"ab"), headers)
        assert json.loads(answer.body)["outputs"][0]["data"] == [97, 98]

    async def test_a_raw_body(self):
        signature = Signature(inputs=[TensorSpec(name="x", datatype="FP32", shape=[-1, 2])])
        house = House(snapshot(deployment(versions=[version("2", signature=signature)])), "oip_rest")
        raw = np.array([1.5, 2], "<f4").tobytes()
        answer = await house.http("POST", "/v2/models/digits/infer", raw, ((LENGTH, "0"),))
        assert answer.status == 200
        assert answer.body.endswith(raw)
        sent = oip.ModelInferRequest.FromString(house.dispatcher.calls[0].payload)
        assert list(sent.inputs[0].shape) == [1, 2]

    async def test_timeout_priority_and_trace_are_understood(self, house):
        content = json.dumps(request(parameters={"timeout": 2_000_000, "priority": 3})).encode()
        headers = (("traceparent", "00-1-2-01"), ("tracestate", "a=b"))
        await house.http("POST", "/v2/models/digits/infer", content, headers)
        (call,) = house.dispatcher.calls
        assert 0 < call.deadline - asyncio.get_running_loop().time() <= 2
        assert (call.priority, call.traceparent, call.tracestate) == (-2, "00-1-2-01", "a=b")

    @pytest.mark.parametrize("path", ["/v2/models/digits/infer", "/v2/models/nope/infer"])
    async def test_bad_json(self, house, path):
        assert "not JSON" in (await ask_raw(house, path, b"{", 400))["error"]

    async def test_what_the_core_refuses(self, house):
        house.dispatcher.on_call = lambda call: NotReady("still loading", retry_after=2)
        assert await ask(house, "POST", "/v2/models/digits/infer", request(), 503) == {"error": "still loading"}


async def ask_raw(house, path, data, status):
    answer = await house.http("POST", path, data)
    assert answer.status == status
    return json.loads(answer.body)


class TestHealth:
    async def test_live_is_always_so(self, house):
        assert await ask(house, "GET", "/v2/health/live") == {"live": True}

    async def test_ready_is_503_until_it_is(self, house):
        assert "error" in await ask(house, "GET", "/v2/health/ready", status=503)
        house.health.set("", True)
        assert await ask(house, "GET", "/v2/health/ready") == {"ready": True}

    @pytest.mark.parametrize(
        ("path", "status"),
        [
            ("/v2/models/digits/ready", 200),
            ("/v2/models/digits/versions/2/ready", 200),
            ("/v2/models/digits/versions/1/ready", 503),
            ("/v2/models/digits/versions/3/ready", 409),
            ("/v2/models/nope/ready", 404),
        ],
    )
    async def test_of_a_model(self, house, path, status):
        content = await ask(house, "GET", path, status=status)
        assert content == {"name": "digits", "ready": True} or "error" in content


class TestDescriptions:
    async def test_of_the_server(self, house):
        content = await ask(house, "GET", "/v2")
        assert content["name"] == "infermesh"
        assert "binary_tensor_data" in content["extensions"]

    async def test_of_models(self, house):
        assert await ask(house, "GET", "/v2/models") == {"models": ["digits"]}

    @pytest.mark.parametrize("path", ["/v2/models/digits", "/v2/models/digits/versions/2"])
    async def test_metadata(self, house, path):
        content = await ask(house, "GET", path)
        assert content["versions"] == ["2"]
        assert content["inputs"][0] == {"name": "x", "datatype": "FP32", "shape": [-1, 4]}

    async def test_config(self, house):
        content = await ask(house, "GET", "/v2/models/digits/config")
        assert content["max_batch_size"] == 32
        assert content["input"][0]["data_type"] == "TYPE_FP32"
        assert content["input"][0]["dims"] == [4]

    @pytest.mark.parametrize("of", ["", "/digits", "/digits/versions/2"])
    async def test_statistics(self, house, of):
        held = oip.ModelStatistics(name="digits", version="2", inference_count=5)
        method = "/inference.GRPCInferenceService/ModelStatistics"
        house.worker.answers[method] = lambda r: oip.ModelStatisticsResponse(model_stats=[held])
        (entry,) = (await ask(house, "GET", f"/v2/models{of}/stats"))["model_stats"]
        assert entry["inference_count"] == 5
        assert entry["inference_stats"]["cache_hit"] == {"count": 0, "ns": 0}

    @pytest.mark.parametrize("path", ["/v2/systemsharedmemory/status", "/v2/cudasharedmemory/region/a/status"])
    async def test_shared_memory_is_not_served(self, house, path):
        assert "not served" in (await ask(house, "GET", path, status=501))["error"]

    async def test_a_name_with_escapes(self, house):
        content = await ask(house, "GET", "/v2/models/não", status=404)
        assert "não" in content["error"]


class TestRepository:
    @pytest.mark.parametrize("path", ["/v2/repository/index", "/v2/repository/mine/index"])
    async def test_index(self, house, path):
        repository(house)
        entries = await ask(house, "POST", path, {"ready": True})
        assert entries == [{"name": "digits", "version": "2", "state": "READY", "reason": ""}]
        assert len(await ask(house, "POST", path)) == 5

    async def test_index_with_a_bad_filter(self, house):
        assert "ready" in (await ask(house, "POST", "/v2/repository/index", {"ready": "yes"}, 400))["error"]

    async def test_load_and_unload(self, house):
        repository(house)
        assert await ask(house, "POST", "/v2/repository/models/digits/load") == {"name": "digits", "load": True}
        delete = "/infermesh.v1.DeploymentService/DeleteDeployment"
        gone = house.registry.answers[delete]
        house.registry.answers[delete] = lambda r: house.routes.apply(snapshot()) or gone(r)
        assert await ask(house, "POST", "/v2/repository/models/digits/unload") == {"name": "digits", "unload": True}

    async def test_load_that_fails(self, house):
        repository(house, error=LoadFailed("tensor 'y' differs"))
        content = await ask(house, "POST", "/v2/repository/models/digits/load", {}, 409)
        assert content == {"error": "tensor 'y' differs"}

    async def test_load_with_files_is_not_served(self, house):
        await ask(house, "POST", "/v2/repository/models/digits/load", {"parameters": {"config": "{}"}}, 501)
