"""Health, reflection and metrics on the public port."""

import asyncio

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from prometheus_client import Counter

from infermesh.gateway.frontends.descriptors import Descriptors
from infermesh.health.v1 import health_pb2 as health
from infermesh.reflection.v1 import reflection_pb2 as reflection
from tests.unit.gateway_front.parts import House
from tests.unit.gateway_front.wire import DISCONNECT, Wire, body, framed, scope

SERVING, NOT_SERVING, UNKNOWN = 1, 2, 3


@pytest.fixture
def house():
    return House()


class TestHealth:
    async def test_check(self, house):
        answer = await house.rpc("/grpc.health.v1.Health/Check", health.HealthCheckRequest())
        assert health.HealthCheckResponse.FromString(answer.messages[0]).status == NOT_SERVING
        house.health.set("", True)
        answer = await house.rpc("/grpc.health.v1.Health/Check", health.HealthCheckRequest())
        assert health.HealthCheckResponse.FromString(answer.messages[0]).status == SERVING

    async def test_check_of_an_unknown_service(self, house):
        answer = await house.rpc("/grpc.health.v1.Health/Check", health.HealthCheckRequest(service="x"))
        assert answer.code == 5

    async def test_list(self, house):
        house.health.set("a.B", True)
        answer = await house.rpc("/grpc.health.v1.Health/List", health.HealthListRequest())
        found = health.HealthListResponse.FromString(answer.messages[0]).statuses
        states = {"": NOT_SERVING, "readiness": NOT_SERVING, "liveness": SERVING, "a.B": SERVING}
        assert {name: found[name].status for name in found} == states

    async def test_watch_tells_every_change_until_the_caller_goes(self, house):
        wire = Wire(body(framed(health.HealthCheckRequest(service="a.B").SerializeToString())))
        running = asyncio.ensure_future(house.front(scope("/grpc.health.v1.Health/Watch"), wire.receive, wire.send))
        for count, change in enumerate((None, True, False), 2):
            if change is not None:
                house.health.set("a.B", change)
            while len(wire.answer.events) < count:  # noqa: ASYNC110
                await asyncio.sleep(0)
        wire.put(DISCONNECT)
        await running
        states = [health.HealthCheckResponse.FromString(m).status for m in wire.answer.messages]
        assert states == [UNKNOWN, SERVING, NOT_SERVING]


class TestReflection:
    async def ask(self, house, version="v1", **question):
        path = f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
        answer = await house.rpc(path, reflection.ServerReflectionRequest(host="h", **question))
        assert answer.code == 0
        return reflection.ServerReflectionResponse.FromString(answer.messages[0])

    @pytest.mark.parametrize("version", ["v1", "v1alpha"])
    async def test_lists_every_mounted_service(self, house, version):
        response = await self.ask(house, version, list_services="")
        names = [service.name for service in response.list_services_response.service]
        assert names == sorted(house.front.services())
        assert {"inference.GRPCInferenceService", "grpc.health.v1.Health", "infermesh.v1.ModelService"} <= set(names)
        assert response.valid_host == "h"

    async def test_a_client_can_build_a_call_for_every_service_with_these_files_alone(self, house):
        services = (await self.ask(house, list_services="")).list_services_response.service
        for service in services:
            response = await self.ask(house, file_containing_symbol=service.name)
            pool = descriptor_pool.DescriptorPool()
            files = map(
                descriptor_pb2.FileDescriptorProto.FromString, response.file_descriptor_response.file_descriptor_proto
            )
            for file in reversed(list(files)):
                pool.Add(file)
            for method in pool.FindServiceByName(service.name).methods:
                message_factory.GetMessageClass(method.input_type)()
                assert f"/{service.name}/{method.name}" in house.methods() or service.name.startswith("google.")

    async def test_foreign_protocols_have_their_true_names(self, house):
        for symbol in ("inference.ModelInferRequest", "grpc.health.v1.HealthCheckResponse.ServingStatus"):
            assert (await self.ask(house, file_containing_symbol=symbol)).HasField("file_descriptor_response")
        for symbol in ("infermesh.oip.v2.ModelInferRequest", "infermesh.health.v1.Health"):
            assert (await self.ask(house, file_containing_symbol=symbol)).error_response.error_code == 5

    async def test_files_by_name(self, house):
        response = await self.ask(house, file_by_filename="inference/grpc_service.proto")
        assert len(response.file_descriptor_response.file_descriptor_proto) == 2

    @pytest.mark.parametrize(
        ("question", "code"),
        [
            ({"file_by_filename": "nope.proto"}, 5),
            ({"file_containing_symbol": "no.Pe"}, 5),
            ({"all_extension_numbers_of_type": "no.Pe"}, 5),
            ({"file_containing_extension": reflection.ExtensionRequest(containing_type="x", extension_number=1)}, 5),
            ({}, 3),
        ],
    )
    async def test_questions_without_an_answer(self, house, question, code):
        assert (await self.ask(house, **question)).error_response.error_code == code

    async def test_extensions_of_a_known_type(self, house):
        response = await self.ask(house, all_extension_numbers_of_type="inference.ModelInferRequest")
        assert list(response.all_extension_numbers_response.extension_number) == []

    def test_nothing_of_ours_is_left_in_the_foreign_files(self):
        for name in (
            "inference/grpc_service.proto",
            "grpc/health/v1/health.proto",
            "grpc/reflection/v1/reflection.proto",
        ):
            for raw in Descriptors().by_name(name):
                assert b"infermesh" not in raw


class TestMetrics:
    @pytest.mark.parametrize(
        ("accept", "kind"),
        [
            ("", b"text/plain; version=0.0.4; charset=utf-8"),
            ("text/plain", b"text/plain; version=0.0.4; charset=utf-8"),
            (
                "application/openmetrics-text; version=1.0.0",
                b"application/openmetrics-text; version=1.0.0; charset=utf-8",
            ),
        ],
    )
    async def test_in_the_format_that_is_asked_for(self, house, accept, kind):
        Counter("things", "Things.", registry=house.metrics).inc(3)
        answer = await house.http("GET", "/metrics", headers=(("accept", accept),))
        assert answer.headers[b"content-type"].startswith(kind)
        assert b"things_total 3.0" in answer.body
        assert answer.body.endswith(b"# EOF\n") == kind.startswith(b"application")
