"""A real worker process between a scheduler and a registry of the test: what it holds, answers, survives and leaves."""

import asyncio
import os
import signal
import struct
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import psutil
import pytest

from infermesh.errors import InvalidInput, NotReady, WorkerLost
from infermesh.health.v1 import health_pb2
from infermesh.mesh.status import from_rpc_error, from_status
from infermesh.oip.v2 import grpc_service_pb2 as oip
from infermesh.oip.v2 import model_config_pb2  # noqa: F401  (the messages above refer to it)
from infermesh.v1 import worker_pb2
from infermesh.v1 import worker_service_pb2 as pb
from infermesh.v1.worker_service_pb2_grpc import WorkerServiceStub
from tests.mesh.worker_surroundings import Surroundings, WorkerProcess, ready

pytestmark = pytest.mark.mesh
State = worker_pb2.HeldVersion


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[Surroundings]:
    async with Surroundings(tmp_path) as surroundings:
        yield surroundings


def request_of(value: float = 1.0, rows: int = 1, id: str = "") -> bytes:
    request = oip.ModelInferRequest(model_name="d", id=id)
    request.inputs.add(name="x", datatype="FP32", shape=[rows, 2])
    request.raw_input_contents.append(struct.pack(f"<{2 * rows}f", *[value] * (2 * rows)))
    return request.SerializeToString()


def values_of(payload: bytes) -> tuple[float, ...]:
    raw = oip.ModelInferResponse.FromString(payload).raw_output_contents[0]
    return struct.unpack(f"<{len(raw) // 4}f", raw)


class Stream:
    """A gateway's end of the bundled stream, over gRPC's own library."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._call: Any = WorkerServiceStub(channel).Serve()  # type: ignore[no-untyped-call]
        self.loads: dict[str, pb.TargetLoad] = {}
        self.results: dict[int, list[pb.ResultItem]] = {}
        self.draining = False
        self.bundles = 0

    async def send(self, *items: pb.WorkItem) -> None:
        await self._call.write(pb.WorkBundle(items=items))

    async def read(self) -> bool:
        """Takes one bundle in; False at the end of the stream."""
        bundle = await self._call.read()
        if bundle is grpc.aio.EOF:
            return False
        self.bundles += 1
        self.loads.update((load.target, load) for load in bundle.loads)
        for result in bundle.results:
            self.results.setdefault(result.id, []).append(result)
        self.draining = self.draining or bundle.draining
        return True

    async def until(self, *ids: int) -> list[pb.ResultItem]:
        """Returns the last results of these calls, once all are there."""
        async with asyncio.timeout(30):
            while not all(number in self.results for number in ids):
                assert await self.read(), "the stream ended early"
        return [self.results[number][-1] for number in ids]

    def close(self) -> None:
        self._call.cancel()


def item(number: int, value: float = 1.0, **fields: Any) -> pb.WorkItem:
    fields.setdefault("target", "d/1")
    return pb.WorkItem(id=number, kind=pb.WorkItem.INFER, payload=request_of(value), **fields)


async def infer(channel: grpc.aio.Channel, value: float = 1.0, timeout: float = 30.0) -> tuple[float, ...]:
    call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    return values_of(await call(request_of(value), timeout=timeout))


async def healthy(worker: WorkerProcess) -> bool:
    async with worker.channel("health") as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=lambda m: m.SerializeToString(),
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        response = await check(health_pb2.HealthCheckRequest(), timeout=5)
        return bool(response.status == health_pb2.HealthCheckResponse.SERVING)


async def until_healthy(worker: WorkerProcess) -> None:
    async with asyncio.timeout(20):
        while not await healthy(worker):  # noqa: ASYNC110  # another process tells nobody
            await asyncio.sleep(0.02)


async def test_a_worker_serves_once_everything_is_loaded_and_not_before(mesh: Surroundings) -> None:
    mesh.scheduler.authoritative = False
    worker = await mesh.worker()
    await mesh.scheduler.until(lambda told: len(mesh.scheduler.heard) > 2)
    assert not await healthy(worker), "nobody has told it what to hold"
    mesh.scheduler.wanted, mesh.scheduler.authoritative = [mesh.doubler()], True
    await until_healthy(worker)
    async with worker.channel() as channel:
        assert await infer(channel, 3.0) == (6.0, 6.0)


async def test_a_second_life_without_scheduler_and_registry_holds_what_the_first_held(mesh: Surroundings) -> None:
    mesh.scheduler.wanted = [mesh.doubler()]
    worker = await mesh.worker()
    await until_healthy(worker)
    await worker.kill()
    await mesh.close()
    worker.ready_file.unlink()
    await worker.start("--scheduler", mesh.address, "--registry", mesh.address)
    await until_healthy(worker)
    async with worker.channel() as channel:
        assert await infer(channel, 3.0) == (6.0, 6.0)


async def test_loads_what_is_assigned_answers_and_unloads(mesh: Surroundings) -> None:
    worker = await mesh.worker("--id", "w1", "--weight", "2", "--labels", "zone=a")
    await until_healthy(worker)  # it is told to hold nothing, and does
    mesh.scheduler.wanted = [mesh.doubler()]
    told = await mesh.scheduler.until(ready)
    assert (told.name, told.weight, dict(told.labels)) == ("workers/w1", 2.0, {"zone": "a"})
    assert (told.address, told.bundle_address) == (worker.addresses["grpc"], worker.addresses["bundles"])
    assert told.device.kind == "cpu"
    assert told.device.memory_total_bytes >= told.device.memory_free_bytes > 0
    assert "python" in told.backends
    assert told.held[0].memory_bytes > 0
    assert told.held[0].load_seconds > 0
    async with worker.channel() as channel:
        assert await infer(channel, 3.0) == (6.0, 6.0)
        children = psutil.Process(worker.pid).children()
        mesh.scheduler.wanted = []
        await mesh.scheduler.until(lambda told: not told.held)
        assert all(not child.is_running() for child in children), "unloading ends the runner"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await infer(channel)
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


async def test_speaks_first_answers_bundles_and_shares_credit(mesh: Surroundings) -> None:
    mesh.scheduler.wanted = [mesh.doubler()]
    worker = await mesh.worker()
    await mesh.scheduler.until(ready)
    async with worker.channel("bundles") as bundles:
        first = Stream(bundles)
        await first.read()
        alone = first.loads["d/1"].credit
        assert alone >= 2
        second = Stream(bundles)
        await second.read()
        assert 1 <= second.loads["d/1"].credit < alone
        await first.send(*(item(number, float(number)) for number in range(1, 101)))
        for number, result in enumerate(await first.until(*range(1, 101)), 1):
            assert values_of(result.payload) == (2.0 * number, 2.0 * number)
            assert result.final
        assert first.bundles < 60, "results of a batch travel together"
        assert not second.results
        first.close()
        second.close()


async def test_one_bad_item_fails_alone_and_every_item_gets_its_answer(mesh: Surroundings) -> None:
    mesh.scheduler.wanted = [mesh.doubler()]
    worker = await mesh.worker()
    await mesh.scheduler.until(ready)
    async with worker.channel("bundles") as bundles:
        stream = Stream(bundles)
        garbage = pb.WorkItem(id=8, kind=pb.WorkItem.INFER, target="d/1", payload=b"\xff\xff")
        unknown = item(9, target="elsewhere/1")
        await stream.send(*(item(n, float("nan") if n == 4 else 1.0) for n in range(1, 8)), garbage, unknown)
        results = await stream.until(*range(1, 10))
        stream.close()
    good = [result for result in results if not result.HasField("error")]
    assert [result.id for result in good] == [1, 2, 3, 5, 6, 7]
    errors = {result.id: from_status(result.error) for result in results if result.HasField("error")}
    assert isinstance(errors[4], InvalidInput)
    assert "NaN is not welcome" in errors[4].message
    assert isinstance(errors[8], InvalidInput)
    assert isinstance(errors[9], NotReady)
    assert results[8].not_started


async def test_deadlines_pass_on_time_and_health_answers_while_a_long_run_is_on(mesh: Surroundings) -> None:
    mesh.scheduler.wanted = [mesh.doubler()]
    worker = await mesh.worker()
    await until_healthy(worker)
    async with worker.channel() as channel, worker.channel("bundles") as bundles:
        stream = Stream(bundles)
        await stream.send(item(1, -20.0))  # two seconds
        await asyncio.sleep(0.2)
        await stream.send(item(2, timeout_us=100_000), item(3), item(4), pb.WorkItem(id=4, kind=pb.WorkItem.CANCEL))
        assert await healthy(worker)
        (late,) = await stream.until(2)
        assert from_status(late.error).reason == "DEADLINE_EXCEEDED"
        assert 1 not in stream.results, "it was told while the long run was still on"
        await stream.until(1, 3)
        assert 4 not in stream.results
        stream.close()
        stats = await statistics(channel)
    assert stats.inference_count == 2, "what was late or cancelled never reached the runner"
    assert stats.inference_stats.fail.count == 1


async def statistics(channel: grpc.aio.Channel) -> oip.ModelStatistics:
    call = channel.unary_unary(
        "/inference.GRPCInferenceService/ModelStatistics",
        request_serializer=lambda m: m.SerializeToString(),
        response_deserializer=oip.ModelStatisticsResponse.FromString,
    )
    response: oip.ModelStatisticsResponse = await call(oip.ModelStatisticsRequest(name="d"))
    return response.model_stats[0]


async def test_a_runner_that_dies_is_told_and_comes_back(mesh: Surroundings) -> None:
    mesh.scheduler.wanted = [mesh.doubler()]
    worker = await mesh.worker()
    await mesh.scheduler.until(ready)
    async with worker.channel() as channel, worker.channel("bundles") as bundles:
        stream = Stream(bundles)
        await stream.read()
        await stream.send(item(1, -1.0))  # os._exit
        (lost,) = await stream.until(1)
        assert isinstance(from_status(lost.error), WorkerLost)
        assert not lost.not_started
        async with asyncio.timeout(30):
            while not stream.loads["d/1"].gone:
                await stream.read()
            while stream.loads["d/1"].gone:
                await stream.read()
        assert any(h.worker.held and h.worker.held[0].state == State.LOADING for h in mesh.scheduler.heard)
        await mesh.scheduler.until(ready)
        assert await infer(channel, 4.0) == (8.0, 8.0)
        stream.close()
    assert len(mesh.registry.downloads) == 1


async def test_sigterm_under_load_loses_nothing(mesh: Surroundings) -> None:
    mesh.scheduler.wanted = [mesh.doubler()]
    worker = await mesh.worker("--drain-lame-duck", "0.5")
    await mesh.scheduler.until(ready)
    health: list[bool] = []
    async with worker.channel("bundles") as bundles:
        stream = Stream(bundles)
        sent = 0
        while not stream.draining:
            await stream.send(item(sent + 1, float(sent)), item(sent + 2, -2.0))
            sent += 2
            await stream.until(*range(1, sent - 1))
            if sent == 20:
                worker.terminate()
            if sent > 20:
                await stream.read()
                health.append(await healthy(worker))
        results = await stream.until(*range(1, sent + 1))
        assert not [from_status(result.error) for result in results if result.HasField("error")]
        assert health[-1] is False, "NOT_SERVING while it still answers"
        while await stream.read():
            pass  # the worker ends the stream, not the wire
        assert await worker.exit_code() == 0, worker.log()
    assert any(h.worker.draining and not h.leaving for h in mesh.scheduler.heard)
    assert mesh.scheduler.heard[-1].leaving
    assert not psutil.pid_exists(worker.pid)


async def test_a_broken_version_fails_with_its_reason_and_is_not_tried_again(mesh: Surroundings) -> None:
    good, bad = mesh.doubler(1), mesh.doubler(2, options={"class": "model:Nothing"})
    mesh.scheduler.wanted = [good, bad]
    worker = await mesh.worker()
    told = await mesh.scheduler.until(lambda told: {h.state for h in told.held} == {State.READY, State.FAILED})
    failed = next(held for held in told.held if held.state == State.FAILED)
    assert failed.version == "2"
    assert "Nothing" in failed.reason
    async with worker.channel() as channel:
        assert await infer(channel) == (2.0, 2.0)
    heard = len(mesh.scheduler.heard)
    await mesh.scheduler.until(lambda told: len(mesh.scheduler.heard) > heard + 3)
    assert worker.log().count('"event": "failed"') == 1


async def test_lives_without_scheduler_and_registry_and_finds_them_later(mesh: Surroundings) -> None:
    mesh.scheduler.wanted = [mesh.doubler()]
    await mesh.close()
    worker = await mesh.worker()
    assert not await healthy(worker), "it holds nothing, and nobody has said that it shall not"
    await mesh.open()
    await mesh.scheduler.until(ready)
    await mesh.close()
    async with worker.channel() as channel:
        assert await infer(channel) == (2.0, 2.0), "it serves on when they are gone again"


async def test_killed_workers_leave_a_cache_that_the_next_one_uses(mesh: Surroundings) -> None:
    mesh.scheduler.wanted = [mesh.doubler()]
    first = await mesh.worker()
    await mesh.scheduler.until(ready)
    runners = psutil.Process(first.pid).children()
    os.kill(first.pid, signal.SIGKILL)
    await first.exit_code()
    _, alive = psutil.wait_procs(runners, timeout=10)
    assert not alive, "runners do not outlive their worker"
    mesh.scheduler.heard.clear()
    second = await mesh.worker("--cache", str(first.folder / "cache"))
    await mesh.scheduler.until(ready)
    assert len(mesh.registry.downloads) == 1
    async with second.channel() as channel:
        assert await infer(channel) == (2.0, 2.0)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--id", "No Good"], "id"),
        (["--device", "toaster"], "device"),
        (["--cache-limit", "-1"], "cache_limit"),
        (["--wat", "1"], "--wat"),
    ],
)
async def test_a_bad_setting_is_one_line_that_names_it(flags: list[str], named: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "infermesh.worker", *flags, stderr=asyncio.subprocess.PIPE
    )
    _, said = await process.communicate()
    assert process.returncode == 2
    assert len(said.decode().strip().splitlines()) == 1
    assert named in said.decode()


async def test_direct_errors_are_typed(mesh: Surroundings) -> None:
    mesh.scheduler.wanted = [mesh.doubler()]
    worker = await mesh.worker()
    await mesh.scheduler.until(ready)
    async with worker.channel() as channel:
        with pytest.raises(grpc.aio.AioRpcError) as nan:
            await infer(channel, float("nan"))
        with pytest.raises(grpc.aio.AioRpcError) as late:
            await infer(channel, -10.0, timeout=0.2)
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        with pytest.raises(grpc.aio.AioRpcError) as garbage:
            await call(b"\xff\xff")
    assert isinstance(from_rpc_error(nan.value), InvalidInput)
    assert late.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert garbage.value.code() == grpc.StatusCode.INVALID_ARGUMENT


_TRITONCLIENT = """
import sys
import numpy as np
import tritonclient.grpc as triton

client = triton.InferenceServerClient(sys.argv[1])
assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("d")
assert not client.is_model_ready("unknown")
assert client.get_model_metadata("d").inputs[0].shape == [-1, 2]
assert client.get_model_config("d").config.input[0].dims == [2]
x = triton.InferInput("x", [2, 2], "FP32")
x.set_data_from_numpy(np.array([[1, 2], [3, 4]], np.float32))
result = client.infer("d", [x], request_id="7", model_version="1")
assert result.as_numpy("y").tolist() == [[2, 4], [6, 8]]
response = result.get_response()
assert (response.id, response.model_name, response.model_version) == ("7", "d", "1")
top = client.infer("d", [x], outputs=[triton.InferRequestedOutput("y", class_count=1)])
assert top.as_numpy("y").tolist() == [[b"4.000000:1"], [b"8.000000:1"]]
stats = client.get_inference_statistics("d").model_stats[0]
assert (stats.inference_count, stats.inference_stats.success.count, stats.inference_stats.queue.count) == (4, 2, 2)
try:
    client.infer("nobody", [x])
except triton.InferenceServerException as error:
    assert error.status() == "StatusCode.NOT_FOUND", error
else:
    raise AssertionError("an unknown model answered")
print("fine")
"""


async def test_tritonclient_talks_to_a_worker_directly(mesh: Surroundings) -> None:
    mesh.scheduler.wanted = [mesh.doubler()]
    worker = await mesh.worker()
    await mesh.scheduler.until(ready)
    client = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _TRITONCLIENT, worker.addresses["grpc"],
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await client.communicate()
    assert out.decode().strip() == "fine", err.decode()


async def test_memory_comes_back_after_many_loads(mesh: Surroundings) -> None:
    worker = await mesh.worker()
    assignment = mesh.doubler()

    def memory() -> int:
        process = psutil.Process(worker.pid)
        return sum(one.memory_info().rss for one in [process, *process.children(recursive=True)])

    sizes = []
    for _ in range(8):
        mesh.scheduler.wanted = [assignment]
        await mesh.scheduler.until(ready)
        mesh.scheduler.wanted = []
        await mesh.scheduler.until(lambda told: not told.held)
        sizes.append(memory())
    assert sizes[-1] < 1.1 * sizes[1], sizes
