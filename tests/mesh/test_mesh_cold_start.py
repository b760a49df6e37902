"""A pool that has shrunk to nothing: calls that come then wait, and the first worker that starts answers them."""

import contextlib
import json
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest

from infermesh import errors
from infermesh.client import Client, Retry
from infermesh.keda.v1.externalscaler_pb2 import IsActiveResponse, ScaledObjectRef
from infermesh.testing import LocalMesh, MeshOptions
from infermesh.v1.deployment_pb2 import Deployment
from tests.mesh.conftest import CPU
from tests.mesh.models import ROW, answer, samples

WAIT = 20.0
POOLS = "scaler_listen: 127.0.0.1:0\npools: {small: {autoscaling: keda, min: 0, zero_delay: 0}}\n"


@pytest.fixture
def mesh(tmp_path):
    """One worker, of a pool that something grows from nothing when calls wait: here the test."""
    (tmp_path / "scheduler.yaml").write_text(POOLS)
    flags = {"worker": ["--labels", "pool=small"]}
    with LocalMesh(tmp_path, MeshOptions(workers=1, flags=flags, **CPU)) as running:
        yield running


def state(client):
    deployment = client.get_deployment("cold")
    return deployment.state, sum(version.ready_replicas for version in deployment.versions)


def until(condition):
    deadline = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def post(mesh, body, headers):
    """Asks over REST; returns the status."""
    request = urllib.request.Request(f"http://{mesh.gateway}/v2/models/cold/infer", body, headers)
    with urllib.request.urlopen(request, timeout=WAIT) as response:
        return response.status


@contextlib.contextmanager
def activity(mesh):
    """Yields what KEDA reads of the pool: one answer after the other, each when it changes."""
    with grpc.insecure_channel(mesh.address("scheduler", "scaler")) as channel:
        call = channel.unary_stream(
            "/externalscaler.ExternalScaler/StreamIsActive",
            lambda message: message.SerializeToString(),
            IsActiveResponse.FromString,
        )
        stream = call(ScaledObjectRef(scalerMetadata={"pool": "small"}), timeout=2 * WAIT)
        yield (answer.result for answer in stream)
        stream.cancel()


def test_from_one_worker_to_none_and_back(mesh, files):
    with (
        Client(mesh.gateway, retry=Retry(attempts=1)) as client,
        ThreadPoolExecutor() as threads,
        contextlib.ExitStack() as exits,
    ):
        client.push("cold", files.onnx(2), samples=samples(2))
        client.set_alias("cold", "prod", 1)
        client.deploy("cold", version="prod", replicas="all", pool="small")
        assert state(client) == (Deployment.ACTIVE, 1)

        mesh.stop("worker-1")

        until(lambda: state(client) == (Deployment.ACTIVE, 0))
        # its own clock tells the client, unless the gateway's is first
        with pytest.raises((errors.DeadlineExceeded, errors.NotReady)):
            client.infer("cold", {"x": ROW}, timeout=0.5)
        active = exits.enter_context(activity(mesh))
        while next(active):
            pass  # that call has made it active for a moment
        held = [
            threads.submit(client.infer, "cold", {"x": ROW}, timeout=WAIT),
            threads.submit(client.infer, "cold", {"x": ROW}, version="prod", timeout=WAIT),
            threads.submit(lambda: list(client.infer_stream("cold", {"x": ROW}, timeout=WAIT))[-1]),
        ]
        tensor = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": ROW[0].tolist()}
        plain = threads.submit(post, mesh, json.dumps({"inputs": [tensor]}).encode(), {})
        raw = threads.submit(post, mesh, ROW.tobytes(), {"Inference-Header-Content-Length": "0"})
        assert next(active), "whatever starts workers is told that calls wait"
        time.sleep(1)
        assert not any(call.done() for call in (*held, plain, raw))

        mesh.revive("worker-1")

        for call in held:
            np.testing.assert_array_equal(call.result()["y"], answer(ROW, 2)["y"])
        assert [call.result() for call in (plain, raw)] == [200, 200]
        until(lambda: state(client) == (Deployment.ACTIVE, 1))
        mesh.wait_serving("worker-1")
