"""What every service owes its operator: health, metrics, a clean end, and start-up errors that name the setting."""

import asyncio
import json
import re
import signal
import subprocess
import sys
import urllib.request

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from infermesh.client import Client
from infermesh.health.v1 import health_pb2
from infermesh.reflection.v1 import reflection_pb2
from tests import dashboards
from tests.mesh.models import ROW, samples
from tests.mesh.traffic import Traffic

SERVICES = ["registry", "scheduler", "worker-1", "worker-2", "gateway"]
SERVING = health_pb2.HealthCheckResponse.SERVING


def unary(address, path, request, response):
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary(path, request.__class__.SerializeToString, response.FromString)
        return call(request, timeout=20)


def fetch(url):
    with urllib.request.urlopen(url, timeout=20) as reply:
        return reply.read().decode()


@pytest.mark.parametrize("name", SERVICES)
def test_health_of_every_service(mesh, name):
    mesh.wait_serving(name)
    request = health_pb2.HealthCheckRequest()
    path = "/grpc.health.v1.Health/Check"
    assert unary(mesh.address(name, "health"), path, request, health_pb2.HealthCheckResponse).status == SERVING
    assert unary(mesh.address(name, "health"), path.replace("Check", "List"), request, health_pb2.HealthListResponse)


def test_health_through_the_front_door(mesh, affine):
    check = "/grpc.health.v1.Health/Check"
    request = health_pb2.HealthCheckRequest()
    assert unary(mesh.gateway, check, request, health_pb2.HealthCheckResponse).status == SERVING
    listed = unary(mesh.gateway, check.replace("Check", "List"), request, health_pb2.HealthListResponse)
    assert listed.statuses[""].status == SERVING
    with pytest.raises(grpc.RpcError) as unknown:
        unary(mesh.gateway, check, health_pb2.HealthCheckRequest(service="no.such"), health_pb2.HealthCheckResponse)
    assert unknown.value.code() == grpc.StatusCode.NOT_FOUND
    with grpc.insecure_channel(mesh.gateway) as channel:
        watch = channel.unary_stream(
            check.replace("Check", "Watch"),
            health_pb2.HealthCheckRequest.SerializeToString,
            health_pb2.HealthCheckResponse.FromString,
        )(request, timeout=20)
        assert next(watch).status == SERVING
        watch.cancel()


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_lists_the_services(mesh, version):
    path = f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
    listing = reflection_pb2.ServerReflectionRequest(list_services="*")
    symbol = reflection_pb2.ServerReflectionRequest(file_containing_symbol="inference.GRPCInferenceService")
    with grpc.insecure_channel(mesh.gateway) as channel:
        ask = channel.stream_stream(
            path,
            reflection_pb2.ServerReflectionRequest.SerializeToString,
            reflection_pb2.ServerReflectionResponse.FromString,
        )
        listed, described = list(ask(iter([listing, symbol]), timeout=20))
    services = {service.name for service in listed.list_services_response.service}
    assert {
        "inference.GRPCInferenceService",
        "grpc.health.v1.Health",
        "infermesh.v1.ModelService",
        "infermesh.v1.DeploymentService",
    } <= services
    assert described.file_descriptor_response.file_descriptor_proto


@pytest.mark.parametrize("name", SERVICES)
def test_metrics_of_every_service(mesh, client, affine, name):
    for _ in range(8):  # round robin: both workers get some
        client.infer(affine, {"x": ROW})
    text = fetch(f"http://{mesh.address(name, 'metrics')}/metrics")
    assert "# TYPE infermesh_" in text
    if name == "gateway" or name.startswith("worker"):
        lines = [line for line in text.splitlines() if f'model="{affine}"' in line and 'version="1"' in line]
        assert any("_seconds_bucket" in line for line in lines), "a histogram in seconds by model and version"
        assert any('code="OK"' in line for line in lines)


def test_dashboards_ask_for_what_the_services_tell(mesh, client, affine):
    client.infer(affine, {"x": ROW})
    exposed, labelled = set(), set()
    for name in SERVICES:
        for family in text_string_to_metric_families(fetch(f"http://{mesh.address(name, 'metrics')}/metrics")):
            exposed.add(family.name)
            labelled |= {(sample.name, *item) for sample in family.samples for item in sample.labels.items()}
    for file in dashboards.FILES:
        for title, expression in dashboards.expressions(dashboards.read(file)):
            for selector in dashboards.selectors(expression):
                assert re.sub("_(total|bucket|sum|count)$", "", selector.name) in exposed, title
                for matcher in selector.matchers.matchers:
                    if str(matcher.op) == "MatchOp.Equal":
                        assert (selector.name, matcher.name, matcher.value) in labelled, title


def test_metrics_through_the_front_door(mesh):
    assert "# TYPE infermesh_" in fetch(f"http://{mesh.gateway}/metrics")


def test_every_service_ends_with_0_when_told_to(make_mesh, files):
    mesh = make_mesh()
    with Client(mesh.gateway) as client:
        client.push("m", files.onnx(2), samples=samples(2))
        client.deploy("m", version=1, replicas=2)
    for name in SERVICES:
        mesh.stop(name)
        assert mesh.processes[name].returncode == 0, f"{name}: {mesh.processes[name].tail()}"


def test_calls_under_way_finish_when_everything_stops(make_mesh, files):
    mesh = make_mesh()
    with Client(mesh.gateway) as client:
        client.push("m", files.onnx(2), samples=samples(2))
        client.deploy("m", version=1, replicas=2)

        async def last_calls():
            from infermesh.client import AsyncClient, Retry

            async with AsyncClient(mesh.gateway, retry=Retry(attempts=1)) as caller:
                calls = [asyncio.create_task(caller.infer("m", {"x": ROW})) for _ in range(200)]
                await asyncio.sleep(0.01)
                mesh.processes["gateway"].send(signal.SIGTERM)
                return await asyncio.gather(*calls, return_exceptions=True)

        results = asyncio.run(last_calls())
        assert [result for result in results if isinstance(result, Exception)] == []


def test_a_second_life_on_the_same_home_continues(make_mesh, files):
    mesh = make_mesh()
    with Client(mesh.gateway) as client:
        client.push("m", files.onnx(2), samples=samples(2))
        client.set_alias("m", "prod", 1)
        client.deploy("m", version="prod", replicas=2)
    mesh.stop()
    again = make_mesh()
    with Client(again.gateway) as client:
        client.deploy("m", timeout=60)  # changes nothing: waits until it answers
        assert client.infer("m", {"x": ROW}, version="prod").version == "1"
    with Traffic(again.gateway, "m", {"1": 2}) as traffic:
        traffic.more(100)
    assert traffic.failures == []


ROOMS = ["registry", "scheduler", "worker", "gateway"]


def start(room, *arguments, environment=None):
    import os

    command = [sys.executable, "-m", f"infermesh.{room}", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, env={**os.environ, **(environment or {})}
    )


def assert_refused(done, named):
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("infermesh: ")
    assert named in last
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("room", ROOMS)
def test_a_setting_that_is_unknown_or_bad_is_named(tmp_path, room):
    file = tmp_path / "settings.json"
    file.write_text(json.dumps({"lisen": "127.0.0.1:0"}))
    assert_refused(start(room, "--config", str(file)), "lisen")
    file.write_text(json.dumps({"drain": {"timeout": "soon"}}))
    assert_refused(start(room, "--config", str(file)), "drain.timeout")
    bad = {f"INFERMESH_{room.upper()}_LOG_LEVEL": "loud"}
    assert_refused(start(room, environment=bad), "log.level")


def test_a_listen_address_that_is_taken_is_named(mesh):
    for room in ("scheduler", "gateway"):
        taken = mesh.address("scheduler")
        assert_refused(start(room, "--listen", taken), taken)
