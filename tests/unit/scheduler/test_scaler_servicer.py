"""The external scaler as KEDA calls it: by its names, over a socket. Its arithmetic is imitated below."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from math import ceil
from typing import Any

import grpc
import grpc.aio
import pytest

from infermesh.keda.v1 import externalscaler_pb2 as pb
from infermesh.mesh import channel, server
from infermesh.scheduler.autoscaler import Signals
from infermesh.scheduler.latest import Latest
from infermesh.scheduler.pools import PoolConfig, PoolTarget
from infermesh.scheduler.scaler_servicer import ScalerServicer, add_to_server
from infermesh.testing.clock import FakeClock

POOLS = {
    "cpu": PoolConfig(autoscaling="keda", target=PoolTarget(queue_rows=10, utilization=0.5, wait=2.0)),
    "own": PoolConfig(autoscaling="builtin", workload="w"),
}


class Keda:
    """What KEDA's Go client asks, with the names that it has for it."""

    def __init__(self, address: str) -> None:
        self.channel = channel.connect(address)

    def _call(self, kind: Any, name: str, answer: Any) -> Any:
        path = f"/externalscaler.ExternalScaler/{name}"
        return kind(path, lambda message: message.SerializeToString(), answer.FromString)

    async def is_active(self, **metadata: str) -> bool:
        call = self._call(self.channel.unary_unary, "IsActive", pb.IsActiveResponse)
        return bool((await call(ref(metadata), timeout=5)).result)

    def stream(self, **metadata: str) -> Any:
        return self._call(self.channel.unary_stream, "StreamIsActive", pb.IsActiveResponse)(ref(metadata))

    async def spec(self, **metadata: str) -> dict[str, float]:
        call = self._call(self.channel.unary_unary, "GetMetricSpec", pb.GetMetricSpecResponse)
        found = (await call(ref(metadata), timeout=5)).metricSpecs
        return {spec.metricName: spec.targetSizeFloat for spec in found}

    async def values(self, metric: str = "", **metadata: str) -> dict[str, float]:
        call = self._call(self.channel.unary_unary, "GetMetrics", pb.GetMetricsResponse)
        request = pb.GetMetricsRequest(scaledObjectRef=ref(metadata), metricName=metric)
        return {value.metricName: value.metricValueFloat for value in (await call(request, timeout=5)).metricValues}

    async def replicas(self, **metadata: str) -> int:
        """Returns what an HPA makes of it: for each metric value over target, the highest number."""
        spec = await self.spec(**metadata)
        wanted = [ceil((await self.values(name, **metadata))[name] / target) for name, target in spec.items()]
        return max(wanted)


def ref(metadata: Mapping[str, str]) -> pb.ScaledObjectRef:
    address = {"scalerAddress": "mesh-scheduler-scaler.default:8303"}
    return pb.ScaledObjectRef(name="workers", namespace="default", scalerMetadata=address | dict(metadata))


class Stage:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.signals: dict[str, Latest[Signals]] = {name: Latest() for name in POOLS}
        self.servicer = ScalerServicer(POOLS, self.signals, self.clock)
        self.keda = Keda("")

    def see(self, **fields: float) -> None:
        known, active = bool(fields.pop("known", True)), bool(fields.pop("active", True))
        workers = int(fields.pop("workers", 2))
        self.signals["cpu"].put(Signals(known, workers, active=active, **fields))


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[Stage]:
    stage = Stage()
    grpc_server = server.create_server()
    add_to_server(stage.servicer, grpc_server)
    stage.keda = Keda(await server.bind(grpc_server, "127.0.0.1:0"))
    try:
        yield stage
    finally:
        await stage.keda.channel.close()
        await grpc_server.stop(0)


async def refused(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), caught.value.details() or ""


async def test_activity_is_told() -> None:
    async with serving() as stage:
        stage.see(active=True)
        assert await stage.keda.is_active(pool="cpu")
        stage.see(active=False)
        assert not await stage.keda.is_active(pool="cpu")


async def test_what_is_not_known_is_an_error_so_that_nothing_changes() -> None:
    async with serving() as stage:
        for call in (stage.keda.is_active(pool="cpu"), stage.keda.values("queue_rows", pool="cpu")):
            assert (await refused(call))[0] is grpc.StatusCode.UNAVAILABLE
        stage.see(known=False)
        assert (await refused(stage.keda.is_active(pool="cpu")))[0] is grpc.StatusCode.UNAVAILABLE
        assert await stage.keda.spec(pool="cpu"), "the targets are known all the same"


async def test_the_stream_begins_with_the_state_and_tells_every_change_at_once() -> None:
    async with serving() as stage:
        stage.see(active=False)
        stream = stage.keda.stream(pool="cpu")
        assert not (await stream.read()).result
        stage.see(active=False)
        stage.see(active=True)
        assert (await stream.read()).result
        stage.see(active=True)
        stage.see(active=False)
        assert not (await stream.read()).result


async def test_the_stream_waits_until_something_is_known() -> None:
    async with serving() as stage:
        stream = stage.keda.stream(pool="cpu")
        stage.see(known=False, active=True)
        stage.see(active=True)
        assert (await stream.read()).result


async def test_calls_that_still_wait_for_a_first_worker_are_told_of_again() -> None:
    async with serving() as stage:
        stage.see(active=True, workers=0)
        stream = stage.keda.stream(pool="cpu")
        assert (await stream.read()).result
        stage.see(active=True, workers=0)
        await stage.clock.advance(5)
        stage.see(active=True, workers=0)
        assert (await stream.read()).result


async def test_the_stream_ends_with_the_term() -> None:
    async with serving() as stage:
        stage.see()
        stream = stage.keda.stream(pool="cpu")
        await stream.read()
        stage.signals["cpu"].close()
        assert await stream.read() is grpc.aio.EOF


async def test_targets_are_those_of_the_pool_or_of_the_trigger() -> None:
    async with serving() as stage:
        assert await stage.keda.spec(pool="cpu") == {"queue_rows": 10, "utilization": 0.5, "wait": 2.0}
        own = await stage.keda.spec(pool="cpu", queueRows="4", utilization="0", waitMs="250")
        assert own == {"queue_rows": 4, "wait": 0.25}


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"rows": 41}, 5),
        ({"utilization": 1.9}, 4),
        ({"wait": 4.0, "workers": 3}, 6),
        ({"wait": 4.0, "workers": 0}, 2),
        ({"rows": 5, "utilization": 0.2, "wait": 0.1}, 1),
        ({}, 0),
    ],
)
async def test_values_make_an_autoscaler_want_the_right_number(fields: dict[str, float], wanted: int) -> None:
    async with serving() as stage:
        stage.see(**fields)
        assert await stage.keda.replicas(pool="cpu") == wanted


async def test_all_values_can_be_asked_for_at_once() -> None:
    async with serving() as stage:
        stage.see(rows=3, utilization=0.5, wait=1.0)
        assert await stage.keda.values(pool="cpu") == {"queue_rows": 3, "utilization": 0.5, "wait": 2.0}


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        ({}, "pool: expected one of the scheduler's pools (cpu, own), got ''"),
        ({"pool": "gpu"}, "(cpu, own), got 'gpu'"),
        ({"pool": "own"}, "expected autoscaling keda"),
        ({"pool": "cpu", "queueRows": "many"}, "queueRows: expected a number, 0 or more, got 'many'"),
        ({"pool": "cpu", "queueRows": "nan"}, "queueRows"),
        ({"pool": "cpu", "queueRows": "inf"}, "queueRows"),
        ({"pool": "cpu", "waitMs": "-1"}, "waitMs"),
        ({"pool": "cpu", "utilization": "70"}, "utilization: expected a number, 0 to 1, got '70'"),
        ({"pool": "cpu", "queueRows": "0", "utilization": "0", "waitMs": "0"}, "above 0"),
    ],
)
async def test_a_wrong_trigger_is_told_what_is_right(metadata: dict[str, str], says: str) -> None:
    async with serving() as stage:
        stage.see()
        keda = stage.keda
        calls = (
            keda.is_active(**metadata),
            keda.spec(**metadata),
            keda.values("x", **metadata),
            keda.stream(**metadata).read(),
        )
        for call in calls:
            code, text = await refused(call)
            assert code is grpc.StatusCode.INVALID_ARGUMENT
            assert says in text


async def test_a_metric_that_is_not_there_is_told() -> None:
    async with serving() as stage:
        stage.see()
        code, text = await refused(stage.keda.values("queue_rows", pool="cpu", queueRows="0"))
        assert (code, "utilization, wait" in text) == (grpc.StatusCode.NOT_FOUND, True)
