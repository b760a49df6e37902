"""Calls for deployments whose pool grows from nothing: held, bounded, answered, or refused in time."""

import asyncio

import pytest

from infermesh.errors import LoadFailed, NotFound, NotReady, Overloaded
from infermesh.gateway.admission import Limits
from infermesh.gateway.calls import Call
from infermesh.gateway.routes import RouteTable
from infermesh.oip.v2.grpc_service_pb2 import ModelInferRequest, ModelInferResponse
from infermesh.v1.deployment_pb2 import Deployment
from infermesh.v1.scheduler_service_pb2 import DeploymentRoute
from infermesh.v1.worker_pb2 import HeldVersion
from tests.unit.gateway.simulation import SimMesh, SimWorker, ask_directly, deployed, outcomes, snapshot
from tests.unit.gateway.virtual import run

TARGET = "digits/1"


def cold(version: str = "1", *, max_queue: int = 0, single_flight: bool = False) -> DeploymentRoute:
    """Returns a deployment that nothing serves and whose pool may grow."""
    aliases = {"prod": version}
    route = deployed({version: []}, weights={version: 1}, aliases=aliases, max_queue=max_queue)
    route.versions[0].state = HeldVersion.STATE_UNSPECIFIED
    route.awaited, route.single_flight = True, single_flight
    return route


def loop_time() -> float:
    return asyncio.get_running_loop().time()


def test_calls_of_every_kind_are_held_until_a_worker_has_come() -> None:
    async def scenario() -> None:
        worker = SimWorker("a", {TARGET: 4})
        async with SimMesh(worker) as mesh:
            await mesh.route(cold(), workers=[])
            calls = [mesh.infer(), mesh.infer("1"), mesh.infer("prod"), ask_directly(mesh, payload=b"x")]
            stream = mesh.core.dispatcher.stream(Call("digits", "", b"x"))
            await asyncio.sleep(60)
            loading = cold()
            loading.versions[0].state = HeldVersion.LOADING
            await mesh.route(loading, workers=[])
            await asyncio.sleep(30)
            assert not any(call.done() for call in (*calls, stream))
            assert mesh.core.dispatcher.in_flight() == 5

            await mesh.route(deployed({"1": [worker]}, aliases={"prod": "1"}))

            assert set(await outcomes(calls)) == {b"a|digits/1|x"}
            assert [response async for response in stream] == [b"a|digits/1|x"] * 3
            assert mesh.core.dispatcher.in_flight() == 0

    run(scenario())


def test_from_one_worker_to_none_and_back_nothing_that_waits_is_lost() -> None:
    async def scenario() -> None:
        worker, next = SimWorker("a", {TARGET: 1}, seconds=1.0), SimWorker("b", {TARGET: 4})
        async with SimMesh(worker, next) as mesh:
            await mesh.route(deployed({"1": [worker]}))
            queued = [mesh.infer() for _ in range(3)]
            await asyncio.sleep(0.5)
            worker.drain()
            worker.kill()
            await mesh.route(cold(), workers=[])
            later = mesh.infer()
            await asyncio.sleep(100)
            await mesh.route(deployed({"1": [next]}), workers=[next])
            assert set(await outcomes([*queued, later])) == {b"b|digits/1|x"}

    run(scenario())


def test_it_is_refused_after_the_longest_hold_and_told_when_to_come_back() -> None:
    async def scenario() -> None:
        async with SimMesh(limits=Limits(cold_start=20)) as mesh:
            await mesh.route(cold(), workers=[])
            began = loop_time()
            with pytest.raises(NotReady, match="for 20 s") as caught:
                await mesh.infer(timeout=30)
            assert loop_time() == pytest.approx(began + 20, abs=0.1)
            assert (caught.value.retry_after, caught.value.reason) == (7.0, "NO_WORKER")
            assert mesh.core.dispatcher.in_flight() == 0

    run(scenario())


def test_its_own_deadline_comes_first_and_it_is_told_when_to_come_back() -> None:
    async def scenario() -> None:
        async with SimMesh() as mesh:
            await mesh.route(cold(), workers=[])
            began = loop_time()
            with pytest.raises(NotReady, match="still starting") as caught:
                await mesh.infer(timeout=3)
            assert loop_time() == pytest.approx(began + 3)
            assert (caught.value.retry_after, caught.value.reason) == (7.0, "NO_WORKER")
            assert mesh.core.dispatcher.in_flight() == 0

    run(scenario())


def test_the_time_that_a_call_has_waited_before_counts() -> None:
    async def scenario() -> None:
        async with SimMesh(limits=Limits(cold_start=20)) as mesh:
            await mesh.route(cold(), workers=[])
            call = mesh.infer()
            call.started -= 15  # type: ignore[attr-defined]
            await asyncio.sleep(1)
            worker = SimWorker("a", {}, up=False)
            await mesh.route(deployed({"1": [worker]}), workers=[worker])
            await mesh.route(cold(), workers=[])
            began = loop_time()
            with pytest.raises(NotReady):
                await call
            assert loop_time() == pytest.approx(began + 5, abs=0.1)

    run(scenario())


def test_nothing_is_held_where_that_is_switched_off() -> None:
    async def scenario() -> None:
        async with SimMesh(limits=Limits(cold_start=0)) as mesh:
            await mesh.route(cold(), workers=[])
            with pytest.raises(NotReady):
                await mesh.infer(timeout=1)

    run(scenario())


def test_what_is_held_is_bounded_in_calls_and_in_bytes() -> None:
    async def scenario() -> None:
        async with SimMesh(limits=Limits(max_waiting_bytes=10)) as mesh:
            await mesh.route(cold(max_queue=2), workers=[])
            calls = [mesh.infer() for _ in range(3)]
            with pytest.raises(Overloaded) as caught:
                await calls[2]
            assert caught.value.reason == "QUEUE_FULL"
            calls[1].cancel()
            with pytest.raises(Overloaded) as caught:
                await mesh.infer(payload=b"x" * 10)
            assert caught.value.reason == "WAITING_BYTES_FULL"
            fits = mesh.infer(payload=b"x" * 9)
            await asyncio.sleep(1)
            assert not fits.done()

    run(scenario())


def test_what_fails_to_load_or_is_deleted_is_not_waited_for() -> None:
    async def scenario() -> None:
        async with SimMesh() as mesh:
            await mesh.route(cold(), workers=[])
            first = mesh.infer()
            failed = cold()
            failed.state, failed.reason = Deployment.FAILED, "golden check"
            await mesh.route(failed, workers=[])
            with pytest.raises(LoadFailed, match="golden check"):
                await first
            with pytest.raises(LoadFailed):
                await mesh.infer()
            await mesh.route(cold(), workers=[])
            second = mesh.infer()
            await mesh.route(workers=[])
            with pytest.raises(NotFound):
                await second
            with pytest.raises(NotFound):
                await mesh.infer("9")

    run(scenario())


def test_a_pool_that_no_longer_grows_ends_the_wait() -> None:
    async def scenario() -> None:
        async with SimMesh() as mesh:
            await mesh.route(cold(), workers=[])
            call = mesh.infer()
            route = cold()
            route.awaited = False
            await mesh.route(route, workers=[])
            with pytest.raises(NotReady):
                await call

    run(scenario())


def test_the_same_request_runs_once_for_all_who_waited() -> None:
    async def scenario() -> None:
        worker = SimWorker("a", {TARGET: 4}, answer=lambda _: ModelInferResponse(id="1").SerializeToString())
        async with SimMesh(worker) as mesh:
            await mesh.route(cold(single_flight=True), workers=[])
            payload = ModelInferRequest(id="1").SerializeToString()
            calls = [mesh.infer(payload=payload) for _ in range(3)]
            await mesh.route(deployed({"1": [worker]}, single_flight=True))
            assert all(isinstance(one, bytes) for one in await outcomes(calls))
            assert len(worker.received) == 1

    run(scenario())


def test_stopping_ends_what_is_held() -> None:
    async def scenario() -> None:
        async with SimMesh() as mesh:
            await mesh.route(cold(), workers=[])
            call = mesh.infer()
        with pytest.raises(NotReady):
            await call

    run(scenario())


def test_what_calls_are_held_for_can_be_described_though_it_is_not_ready() -> None:
    table = RouteTable()
    table.apply(snapshot(cold("2"), workers=[]))
    assert [table.description("digits", name).version for name in ("", "2", "prod")] == ["2", "2", "2"]
    with pytest.raises(NotReady):
        table.version("digits", "")
    with pytest.raises(NotFound):
        table.description("digits", "9")
    with pytest.raises(NotFound):
        table.description("other", "")
    failed = cold("2")
    failed.state = Deployment.FAILED
    table.apply(snapshot(failed, workers=[]))
    with pytest.raises(LoadFailed):
        table.description("digits", "")
