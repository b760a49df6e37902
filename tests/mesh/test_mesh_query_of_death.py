"""A request that ends the process of the model that executes it, again and again, among good ones."""

import asyncio
import itertools
import random
import re
from collections import Counter
from urllib.request import urlopen

import grpc
import grpc.aio
import numpy as np
import pytest
from google.rpc import error_details_pb2, status_pb2

from infermesh.client import AsyncClient, Client, Retry, signature
from infermesh.errors import MeshError, QueryOfDeath
from infermesh.oip.v2 import grpc_service_pb2 as oip
from infermesh.testing import LocalMesh, MeshOptions

INFER = "/inference.GRPCInferenceService/ModelInfer"
DETAILS = "grpc-status-details-bin"
WIDTH = 4
DEADLY = -666.0
CALLERS = 64
SIGNATURE = signature(inputs={"x": ("FP32", [-1, WIDTH])}, outputs={"y": ("FP32", [-1, WIDTH])})
MODEL = f"""
import os

class Model:
    def infer(self, inputs):
        if {{mortal}} and (inputs["x"] == {DEADLY}).any():
            os._exit(3)
        return {{{{"y": inputs["x"] * {{scale}} + 1}}}}
"""


@pytest.fixture(scope="module")
def mesh(tmp_path_factory):
    """Two gateways before two workers that may run Python."""
    # a runner may take long to come back where other tests use the machine
    flags = {"worker": ["--allow-python"], "gateway": ["--limits-hold", "30"]}
    options = MeshOptions(workers=2, gateways=2, device="cpu", flags=flags, start_timeout=60.0)
    with LocalMesh(tmp_path_factory.mktemp("deadly"), options) as running:
        yield running


@pytest.fixture
def client(mesh):
    with Client(mesh.gateway, retry=Retry(attempts=1)) as connected:
        yield connected


def push(client, folder, name, *, scale, mortal):
    path = folder / f"{name}-{scale}" / "model.py"
    path.parent.mkdir()
    path.write_text(MODEL.format(mortal=mortal, scale=scale))
    client.push(name, path, backend="python", signature=SIGNATURE, max_batch_size=32)


def deaths(mesh, name):
    """Returns how many runners of a deployment have died, as the workers count."""
    total = 0
    for worker in ("worker-1", "worker-2"):
        text = urlopen(f"http://{mesh.address(worker, 'metrics')}/metrics").read().decode()
        for found in re.findall(rf'infermesh_worker_runner_deaths_total{{model="{name}",[^}}]*}} (\S+)', text):
            total += int(float(found))
    return total


class Books:
    """Calls at several gateways whose answers are checked one by one, none repeated."""

    def __init__(self, addresses, name, scale):
        self._addresses, self._name, self._scale = addresses, name, scale
        self.outcomes = Counter()
        self.messages = set()

    def make(self, good, deadly, seed=1):
        """Makes the calls in random order, CALLERS at a time."""
        rows = [np.arange(WIDTH, dtype=np.float32) + number for number in range(good)]
        rows += [np.full(WIDTH, DEADLY, np.float32)] * deadly
        random.Random(seed).shuffle(rows)
        asyncio.run(self._run(rows))
        return dict(self.outcomes)

    async def _run(self, rows):
        channels = [grpc.aio.insecure_channel(address) for address in self._addresses]
        methods = itertools.cycle(channel.unary_unary(INFER) for channel in channels)
        left = enumerate(rows)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(CALLERS):
                tasks.create_task(self._call(next(methods), left))
        for channel in channels:
            await channel.close()

    async def _call(self, method, left):
        for number, row in left:
            request = oip.ModelInferRequest(model_name=self._name, id=f"call-{number}")
            request.inputs.add(name="x", datatype="FP32", shape=[1, WIDTH])
            request.raw_input_contents.append(row.tobytes())
            kind = "deadly" if row[0] == DEADLY else "good"
            try:
                response = oip.ModelInferResponse.FromString(await method(request.SerializeToString(), timeout=60))
            except grpc.aio.AioRpcError as error:
                self.outcomes[kind, error.code().name, self._reason(error)] += 1
                continue
            right = response.id == request.id and response.raw_output_contents[0] == (row * self._scale + 1).tobytes()
            self.outcomes[kind, "OK" if right else "WRONG", ""] += 1

    def _reason(self, error):
        status = status_pb2.Status.FromString(dict(error.trailing_metadata())[DETAILS])
        info = error_details_pb2.ErrorInfo()
        assert any(detail.Unpack(info) for detail in status.details)
        self.messages.add(error.details())
        return info.reason


def wanted(good, deadly):
    """Returns the only outcome that is right."""
    return {("good", "OK", ""): good, ("deadly", "FAILED_PRECONDITION", "QUERY_OF_DEATH"): deadly}


def test_fifty_copies_among_5000_good_calls_cost_two_runners_and_no_good_call(mesh, client, tmp_path):
    push(client, tmp_path, "single", scale=2, mortal=True)
    client.deploy("single", version=1, replicas=1)

    books = Books([mesh.gateway], "single", 2)
    assert books.make(5000, 50) == wanted(5000, 50)

    assert deaths(mesh, "single") <= 2
    [message] = books.messages
    assert "version 1 of model 'single' died each time it executed this" in message
    [statistics] = client.statistics("single")
    assert (statistics.inference_stats.success.count, statistics.inference_stats.fail.count) == (5000, 50)
    assert sum(held.quarantined for worker in client.workers() for held in worker.held) == 1
    check_lifted(client, tmp_path, "single")


def test_the_same_with_two_workers_and_two_gateways(mesh, client, tmp_path):
    push(client, tmp_path, "double", scale=3, mortal=True)
    client.deploy("double", version=1, replicas=2)

    assert Books(mesh.gateways, "double", 3).make(2000, 50) == wanted(2000, 50)

    # a third where both workers got a copy in the same moment, and gateways heard of it in different orders
    assert deaths(mesh, "double") <= 3
    check_lifted(client, tmp_path, "double")


def check_lifted(client, folder, name):
    """What was refused is asked of the next version, and only of that."""
    deadly = {"x": np.full((1, WIDTH), DEADLY, np.float32)}
    push(client, folder, name, scale=5, mortal=False)
    client.deploy(name, traffic={"1": 0, "2": 1})
    assert client.infer(name, deadly)["y"][0, 0] == DEADLY * 5 + 1
    with pytest.raises(QueryOfDeath):
        client.infer(name, deadly, version="1")


STREAMING = """
import os

class Model:
    def infer(self, inputs):
        for number in range(3):
            if inputs["after"][0] == 1000 + number:  # none that warming up would ask
                os._exit(3)
            yield {"number": [number]}
"""


async def stream(address, after):
    """Returns the numbers that a call gives, and the reason of its error if it has one."""
    found = []
    async with AsyncClient(address, retry=Retry(attempts=1)) as client:
        try:
            async for result in client.infer_stream("streaming", {"after": np.array([after])}, timeout=30):
                found.append(int(result["number"][0]))
        except MeshError as error:
            found.append(error.reason)
    return found


def test_streams_that_kill_are_cut_once_they_have_begun_and_refused_before(mesh, client, tmp_path):
    path = tmp_path / "model.py"
    path.write_text(STREAMING)
    int64 = signature(inputs={"after": ("INT64", [1])}, outputs={"number": ("INT64", [1])})
    client.push("streaming", path, backend="python", signature=int64, decoupled=True)
    client.deploy("streaming", version=1, replicas=1)

    def tokens(after):
        return asyncio.run(stream(mesh.gateway, after))

    assert tokens(0) == [0, 1, 2]
    assert tokens(1000) == ["QUERY_OF_DEATH"], "tried twice, the second time alone"
    assert deaths(mesh, "streaming") == 2
    assert [tokens(1001), tokens(1001), tokens(1001)] == [[0, "RUNNER_DIED"], [0, "RUNNER_DIED"], ["QUERY_OF_DEATH"]]
    assert deaths(mesh, "streaming") == 4
    assert tokens(0) == [0, 1, 2]
