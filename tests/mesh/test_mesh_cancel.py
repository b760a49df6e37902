"""A caller who goes away is noticed long before the model is done, whichever way the call takes through the front
door."""

import asyncio
import urllib.request

import grpc
import numpy as np
import pytest

from infermesh.client import Client
from infermesh.oip.v2 import grpc_service_pb2 as oip
from infermesh.testing import LocalMesh, MeshOptions
from tests.mesh.models import SIGNATURE, WIDTH, python_file

INFER = "/inference.GRPCInferenceService/ModelInfer"
SLOW = 6.0  # seconds that the model takes
LARGE = 200_000  # bytes that do not come in one piece


@pytest.fixture(scope="module")
def slow(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slow")
    options = MeshOptions(workers=1, device="cpu", flags={"worker": ["--allow-python"]})
    with LocalMesh(folder / "home", options) as mesh, Client(mesh.gateway) as client:
        path = python_file(folder, 2, SLOW)
        client.push("slow", path, backend="python", signature=SIGNATURE, max_batch_size=100_000)
        client.deploy("slow", version=1)
        yield mesh


def cancelled(mesh):
    """Returns how many calls the gateway has counted as cancelled."""
    with urllib.request.urlopen(f"http://{mesh.address('gateway', 'metrics')}/metrics") as page:
        lines = page.read().decode().splitlines()
    wanted = ("infermesh_inference_requests_total{", 'code="CANCELLED"', 'model="slow"')
    return sum(float(line.rpartition(" ")[2]) for line in lines if all(part in line for part in wanted))


async def leave(mesh, rows):
    """Makes a call and goes away within it."""
    before = cancelled(mesh)
    row = np.ones((rows, WIDTH), np.float32)
    request = oip.ModelInferRequest(model_name="slow", raw_input_contents=[row.tobytes()])
    request.inputs.add(name="x", datatype="FP32", shape=row.shape)
    async with grpc.aio.insecure_channel(mesh.gateway) as channel:
        call = channel.unary_unary(INFER)(request.SerializeToString())
        await asyncio.sleep(0.7)
        call.cancel()
        # the connection stays: only the call is gone
        async with asyncio.timeout(SLOW / 2):
            while await asyncio.to_thread(cancelled, mesh) == before:  # noqa: ASYNC110
                await asyncio.sleep(0.05)


async def test_a_short_request(slow):
    await leave(slow, 1)


async def test_a_request_in_pieces(slow):
    await leave(slow, LARGE // (4 * WIDTH))
