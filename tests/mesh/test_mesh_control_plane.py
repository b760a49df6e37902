"""Registry and scheduler are both dead: what is loaded is served on, also by a gateway and a worker that start anew."""

import time

import pytest

from infermesh.client import Client, Retry
from tests.mesh.accounted import Accounted
from tests.mesh.models import ROW, samples


@pytest.mark.parametrize("dead", [8, pytest.param(60, marks=[pytest.mark.soak, pytest.mark.timeout(300)])])
def test_nobody_misses_them_for_a_while(make_mesh, files, dead):
    mesh = make_mesh(gateways=2)
    with Client(mesh.gateway, retry=Retry(attempts=1)) as client:
        client.push("served", files.onnx(2), samples=samples(2))
        client.deploy("served", version=1, replicas=2)
    mesh.wait_serving()
    with Accounted(mesh.gateways, "served", rate=200) as calls:
        calls.more(100)
        mesh.kill("scheduler")
        mesh.kill("registry")
        until = time.monotonic() + dead
        for name in ("gateway-2", "worker-1"):
            calls.now = name
            mesh.restart(name)
            mesh.wait_serving(name)
        with Client(mesh.gateways[1], retry=Retry(attempts=1)) as client:
            assert client.infer("served", {"x": ROW}).version == "1"
        calls.now = "only what has started anew"
        mesh.stop("worker-2")
        calls.more(300)
        time.sleep(max(0.0, until - time.monotonic()))
        for name in ("registry", "scheduler", "worker-2"):
            calls.now = f"{name} is back"
            mesh.restart(name)
        mesh.wait_serving()
        calls.more(300)
    assert calls.failures == []
    with Client(mesh.gateways[1], retry=Retry(attempts=1)) as client:
        assert [version.ready_replicas for version in client.get_deployment("served").versions] == [2]
