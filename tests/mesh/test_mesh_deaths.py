"""Processes die and come back while calls go on; nobody who calls may notice."""

import time

import psutil
import pytest

from infermesh import errors
from infermesh.client import Client
from tests.mesh.models import ROW, samples
from tests.mesh.traffic import Traffic

SOON = 60.0


@pytest.fixture
def served(rough_client, files, fresh_id):
    """A deployment of y = 2x + 1 on both workers of the rough mesh."""
    name = fresh_id("served")
    rough_client.push(name, files.onnx(2), samples=samples(2))
    rough_client.deploy(name, version=1, replicas=2)
    yield name
    with Client(rough_client.address) as patient:
        patient.undeploy(name)


def wait_until(condition, what):
    until = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < until, what
        time.sleep(0.05)


def ready_workers(client, deployment):
    try:
        return sum(version.ready_replicas for version in client.get_deployment(deployment).versions)
    except errors.NotReady:  # the gateway has not found the registry again yet
        return 0


def test_a_worker_is_killed(rough_mesh, rough_client, served):
    with Traffic(rough_mesh.gateway, served, {"1": 2}, callers=64) as traffic:
        traffic.more(500)
        rough_mesh.kill("worker-1")
        traffic.more(2_000)
        rough_mesh.restart("worker-1")
        wait_until(lambda: ready_workers(rough_client, served) == 2, "the worker did not come back")
        traffic.more(500)
    assert traffic.failures == []


def test_a_runner_is_killed(rough_mesh, rough_client, served):
    worker = psutil.Process(rough_mesh.processes["worker-1"].pid)
    runners = worker.children(recursive=True)
    assert runners, "the version runs in a process of its own"
    with Traffic(rough_mesh.gateway, served, {"1": 2}, callers=64) as traffic:
        traffic.more(500)
        for runner in runners:
            runner.kill()
        traffic.more(1_000)
        wait_until(lambda: set(worker.children(recursive=True)) - set(runners), "no new runner")
        wait_until(lambda: ready_workers(rough_client, served) == 2, "the version did not come back")
        traffic.more(500)
    assert traffic.failures == []


def test_a_worker_is_told_to_stop(rough_mesh, rough_client, served):
    with Traffic(rough_mesh.gateway, served, {"1": 2}, callers=64) as traffic:
        traffic.more(500)
        rough_mesh.stop("worker-2")
        traffic.more(1_000)
    assert traffic.failures == []
    assert rough_mesh.processes["worker-2"].returncode == 0


def test_the_scheduler_is_restarted(rough_mesh, rough_client, served):
    with Traffic(rough_mesh.gateway, served, {"1": 2}) as traffic:
        traffic.more(200)
        rough_mesh.kill("scheduler")
        traffic.more(500)
        rough_mesh.restart("scheduler")
        wait_until(lambda: len(workers_or_none(rough_client)) == 2, "the workers did not come back")
        traffic.more(500)
    assert traffic.failures == []
    assert ready_workers(rough_client, served) == 2


def workers_or_none(client):
    try:
        return list(client.workers())
    except errors.NotReady:
        return []


def test_registry_and_scheduler_are_both_dead(rough_mesh, served):
    with Traffic(rough_mesh.gateway, served, {"1": 2}) as traffic:
        rough_mesh.kill("registry")
        rough_mesh.kill("scheduler")
        traffic.more(2_000)
        time.sleep(4)  # longer than three heartbeats
        traffic.more(2_000)
        rough_mesh.restart("registry")
        rough_mesh.restart("scheduler")
        traffic.more(500)
    assert traffic.failures == []


def test_a_worker_restarted_without_registry_and_scheduler_is_served_later(rough_mesh, rough_client, served):
    rough_mesh.kill("registry")
    rough_mesh.kill("scheduler")
    rough_mesh.restart("worker-2")  # starts without anybody to talk to
    rough_mesh.restart("scheduler")
    rough_mesh.restart("registry")
    wait_until(lambda: ready_workers(rough_client, served) == 2, "worker-2 did not come back")
    assert rough_client.infer(served, {"x": ROW}).version == "1"


def test_the_registry_keeps_everything(rough_mesh, rough_client, served):
    version = rough_client.get_version(served, 1)
    rough_client.set_alias(served, "prod", 1)
    before = rough_client.get_deployment(served)
    rough_mesh.kill("registry")
    rough_mesh.restart("registry")
    with Client(rough_mesh.gateway) as client:
        assert client.get_version(served, 1) == version
        assert client.get_alias(served, "prod").version == version.name
        after = client.get_deployment(served)
        assert (after.generation, after.traffic) == (before.generation, before.traffic)


def test_the_gateway_is_killed_and_comes_back_where_it_was(rough_mesh, served):
    envoy = psutil.Process(rough_mesh.processes["gateway"].pid).children(recursive=True)
    rough_mesh.kill("gateway")
    wait_until(lambda: not any(child.is_running() for child in envoy), "Envoy outlives its supervisor")
    rough_mesh.restart("gateway")
    with Client(rough_mesh.gateway) as client:
        wait_until(lambda: client.ready(served), "the gateway did not find its workers")
        assert client.infer(served, {"x": ROW}).version == "1"
