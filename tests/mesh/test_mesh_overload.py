"""Five times more calls than two workers can do, from clients that try three times again at once."""

import asyncio
import random
import re
import time
import urllib.request
from collections import Counter

import grpc
import grpc.aio
import psutil
import pytest

from infermesh.client import Client
from infermesh.oip.v2 import grpc_service_pb2 as oip
from infermesh.testing import LocalMesh, MeshOptions
from tests.mesh.accounted import INFER
from tests.mesh.models import ROW, SIGNATURE, python_file

MODEL_SECONDS = 0.1
BATCH = 4
TIMEOUT = 1.0
LIMITS = ["--limits-max-queue", "200", "--limits-max-waiting-bytes", "200000"]
AGAIN = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.DEADLINE_EXCEEDED}


@pytest.fixture(scope="module")
def mesh(tmp_path_factory):
    folder = tmp_path_factory.mktemp("overload")
    flags = {"worker": ["--allow-python"], "gateway": LIMITS}
    with LocalMesh(folder / "home", MeshOptions(workers=2, device="cpu", flags=flags)) as running:
        with Client(running.gateway) as client:
            client.push("slow", python_file(folder, 2, MODEL_SECONDS), signature=SIGNATURE, max_batch_size=BATCH)
            client.deploy("slow", version=1, replicas=2)
        yield running


def metric(mesh, name, *services):
    """Returns the sum of a metric over its labels and some services."""
    total = 0.0
    for service in services:
        with urllib.request.urlopen(f"http://{mesh.address(service, 'metrics')}/metrics", timeout=10) as page:
            total += sum(map(float, re.findall(rf"^{name}(?:{{.*}})? (\S+)$", page.read().decode(), re.MULTILINE)))
    return total


class Crowd:
    """Clients whose calls are wanted at steady times, whether or not earlier ones were answered."""

    def __init__(self, channel):
        self._infer = channel.unary_unary(INFER, response_deserializer=oip.ModelInferResponse.FromString)
        request = oip.ModelInferRequest(model_name="slow")
        request.inputs.add(name="x", datatype="FP32", shape=list(ROW.shape))
        request.raw_input_contents.append(ROW.tobytes())
        self._request = request.SerializeToString()
        self._tasks = []
        self.wanted = Counter()
        self.good = Counter()
        self.attempts = Counter()
        self.codes = Counter()

    async def peak(self, callers, seconds):
        """Returns the calls a second that are answered while there are always so many."""
        end, answered = time.monotonic() + seconds, 0

        async def again():
            nonlocal answered
            while time.monotonic() < end:
                await self._infer(self._request, timeout=30)
                answered += time.monotonic() < end

        await asyncio.gather(*(again() for _ in range(callers)))
        return answered / seconds

    async def call(self, phase, rate, seconds):
        """Wants `rate` calls a second for so long; books them under `phase`."""
        start = time.monotonic()
        while (now := time.monotonic() - start) < seconds:
            for _ in range(int(now * rate) - self.wanted[phase]):
                self.wanted[phase] += 1
                self._tasks.append(asyncio.create_task(self._want(phase)))
            await asyncio.sleep(0.005)

    async def end(self):
        await asyncio.gather(*self._tasks)

    async def _want(self, phase):
        for _ in range(4):
            self.attempts[phase] += 1
            try:
                await self._infer(self._request, timeout=TIMEOUT)
            except grpc.aio.AioRpcError as error:
                self.codes[f"{error.code().name} {error.details()}"] += 1
                if error.code() not in AGAIN:
                    return
                await asyncio.sleep(random.uniform(0.02, 0.1))
            else:
                self.good[phase] += 1
                return


async def storm(address, seconds):
    async with grpc.aio.insecure_channel(address) as channel:
        crowd = Crowd(channel)
        peak = await crowd.peak(6 * BATCH, 2)
        await crowd.call("before", 0.6 * peak, 2)
        await crowd.call("storm", 5 * peak, seconds)
        good = crowd.good["storm"]
        await crowd.call("ebb", 0.6 * peak, 2)
        await crowd.call("after", 0.6 * peak, 2)
        await crowd.end()
        return crowd, peak, good


def overload(mesh, seconds):
    gateway = psutil.Process(mesh.processes["gateway"].pid)
    before = memory(gateway)
    sent = metric(mesh, "infermesh_worker_calls_total", "worker-1", "worker-2")
    crowd, peak, good = asyncio.run(storm(mesh.gateway, seconds))
    grown = memory(gateway) - before
    sent = metric(mesh, "infermesh_worker_calls_total", "worker-1", "worker-2") - sent
    print(
        f"wanted {dict(crowd.wanted)}, good {dict(crowd.good)}, in the storm's time {good} of {peak * seconds:g}; "
        f"{sum(crowd.attempts.values())} attempts, {sent:g} at workers, codes {dict(crowd.codes)}, "
        f"{grown >> 20} MiB more"
    )
    assert crowd.good["before"] == crowd.wanted["before"]
    assert good >= 0.8 * peak * seconds
    assert crowd.good["after"] >= 0.99 * crowd.wanted["after"]
    assert sent <= 1.1 * (sum(crowd.wanted.values()) + 2 * peak)
    assert grown < 100 << 20
    assert metric(mesh, "infermesh_inference_waiting", "gateway") == 0


async def equals(address, count):
    """Sends so many requests at once that differ in their ids only; returns the answers' ids."""
    async with grpc.aio.insecure_channel(address) as channel:
        infer = channel.unary_unary(
            INFER,
            request_serializer=oip.ModelInferRequest.SerializeToString,
            response_deserializer=oip.ModelInferResponse.FromString,
        )
        requests = [oip.ModelInferRequest(model_name="slow", id=f"caller {number}") for number in range(count)]
        for request in requests:
            request.inputs.add(name="x", datatype="FP32", shape=list(ROW.shape))
            request.raw_input_contents.append(ROW.tobytes())
        answers = await asyncio.gather(*(infer(request, timeout=10) for request in requests))
        assert all(answer.raw_output_contents[0] == (ROW * 2 + 1).tobytes() for answer in answers)
        return [answer.id for answer in answers]


def test_equal_requests_at_the_same_time_run_once_where_it_is_wanted(mesh):
    def executed():
        return metric(mesh, "infermesh_worker_calls_total", "worker-1", "worker-2")

    with Client(mesh.gateway) as client:
        before = executed()
        asyncio.run(equals(mesh.gateway, 20))
        assert executed() == before + 20
        client.deploy("slow", single_flight=True)
        try:
            before = executed()
            assert asyncio.run(equals(mesh.gateway, 20)) == [f"caller {number}" for number in range(20)]
            assert before < executed() <= before + 3  # not all of them may have come while the first one ran
        finally:
            client.deploy("slow", single_flight=False)


def memory(process):
    return sum(one.memory_info().rss for one in (process, *process.children(recursive=True)))


def test_what_can_be_done_is_done_while_five_times_as_much_is_wanted(mesh):
    overload(mesh, seconds=3)


@pytest.mark.soak
def test_what_can_be_done_is_done_through_ten_seconds_of_it(mesh):
    overload(mesh, seconds=10)
