"""Equal requests at the same time: run once, answered to each caller under its own id, and nothing kept."""

import asyncio
from collections.abc import Callable

import pytest

from infermesh.errors import DeadlineExceeded, InvalidInput, NotReady, Overloaded
from infermesh.gateway.admission import Limits
from infermesh.mesh.parcel import LARGE
from infermesh.oip.v2.grpc_service_pb2 import ModelInferRequest, ModelInferResponse
from infermesh.v1.worker_service_pb2 import WorkItem
from tests.unit.gateway.simulation import SimMesh, SimWorker, ask_directly, deployed, outcomes, settle
from tests.unit.gateway.virtual import run

TARGET = "digits/1"


def asks(number: int, caller: str, size: int = 1) -> bytes:
    request = ModelInferRequest(model_name="digits", id=caller)
    request.raw_input_contents.append(b"%d" % number * size)
    return request.SerializeToString()


def answered(item: WorkItem) -> bytes:
    request = ModelInferRequest.FromString(item.payload)
    response = ModelInferResponse(model_name="digits", model_version="1", id=request.id)
    response.raw_output_contents.append(request.raw_input_contents[0] * 2)
    return response.SerializeToString()


def worker(name: str = "a", credit: int = 8, seconds: float = 0.1) -> SimWorker:
    return SimWorker(name, {TARGET: credit}, seconds=seconds, answer=answered)


def read(response: bytes) -> tuple[str, bytes]:
    message = ModelInferResponse.FromString(response)
    return message.id, message.raw_output_contents[0]


Ask = Callable[..., asyncio.Future[bytes]]


@pytest.fixture(params=[SimMesh.infer, ask_directly])
def ask(request: pytest.FixtureRequest) -> Ask:
    """The two ways to make a call."""
    return request.param  # type: ignore[no-any-return]


async def sharing(mesh: SimMesh, *workers: SimWorker, **more: int) -> None:
    await mesh.route(deployed({"1": list(workers)}, single_flight=True, **more))  # type: ignore[arg-type]


def shared(mesh: SimMesh) -> int:
    return sum(stats.shared for stats in mesh.core.stats())


def test_a_hundred_equal_requests_run_once_and_each_caller_finds_its_own_id(ask: Ask) -> None:
    async def scenario() -> None:
        only = worker()
        async with SimMesh(only) as mesh:
            await sharing(mesh, only)
            found = await outcomes([ask(mesh, payload=asks(7, f"caller {n}")) for n in range(100)])
            assert [read(one) for one in found] == [(f"caller {n}", b"77") for n in range(100)]  # type: ignore[arg-type]
            assert (len(only.received), shared(mesh)) == (1, 99)
            [stats] = [one for one in mesh.core.stats() if one.model]
            assert (stats.ok.count, stats.compute_us) == (100, 7)  # what one execution took is counted once
            assert mesh.core._directory.tally.bytes == 0
            assert mesh.core.dispatcher._flights._flights == {}

    run(scenario())


def test_a_large_answer_is_everybodys_too(ask: Ask) -> None:
    async def scenario() -> None:
        only = worker()
        async with SimMesh(only) as mesh:
            await sharing(mesh, only)
            callers = ("one", "other")
            found = await outcomes([ask(mesh, payload=asks(7, caller, LARGE)) for caller in callers])
            assert [read(one) for one in found] == [(caller, b"77" * LARGE) for caller in callers]  # type: ignore[arg-type]
            assert len(only.received) == 1

    run(scenario())


@pytest.mark.parametrize("ids", [("", "mine"), ("mine", ""), ("", "")])
def test_a_caller_without_an_id_gets_none(ask: Ask, ids: tuple[str, str]) -> None:
    async def scenario() -> None:
        only = worker()
        async with SimMesh(only) as mesh:
            await sharing(mesh, only)
            found = await outcomes([ask(mesh, payload=asks(7, one)) for one in ids])
            assert [read(one)[0] for one in found] == list(ids)  # type: ignore[arg-type]
            assert len(only.received) == 1

    run(scenario())


def test_different_requests_and_later_ones_run_each(ask: Ask) -> None:
    async def scenario() -> None:
        only = worker()
        async with SimMesh(only) as mesh:
            await sharing(mesh, only)
            await outcomes([ask(mesh, payload=asks(n % 3, "x")) for n in range(9)])
            assert len(only.received) == 3
            await ask(mesh, payload=asks(0, "x"))
            assert len(only.received) == 4  # an answer is not a cache

    run(scenario())


def test_where_it_is_off_every_request_runs(ask: Ask) -> None:
    async def scenario() -> None:
        only = worker()
        async with SimMesh(only) as mesh:
            await mesh.route(deployed({"1": [only]}))
            await outcomes([ask(mesh, payload=asks(7, "x")) for _ in range(5)])
            assert (len(only.received), shared(mesh)) == (5, 0)

    run(scenario())


def test_versions_do_not_share(ask: Ask) -> None:
    async def scenario() -> None:
        both = SimWorker("a", {TARGET: 8, "digits/2": 8}, answer=answered)
        async with SimMesh(both) as mesh:
            await mesh.route(deployed({"1": [both], "2": [both]}, single_flight=True, aliases={"prod": "2"}))
            await outcomes([ask(mesh, version, asks(7, "x")) for version in ("1", "2", "prod", "1")])
            assert sorted(item.target for item in both.received) == [TARGET, "digits/2"]

    run(scenario())


def test_when_the_first_caller_goes_away_the_others_are_answered(ask: Ask) -> None:
    async def scenario() -> None:
        only = worker()
        async with SimMesh(only) as mesh:
            await sharing(mesh, only)
            calls = [ask(mesh, payload=asks(7, f"{n}")) for n in range(4)]
            await asyncio.sleep(0.05)
            calls[0].cancel()
            calls[1].cancel()
            found = await outcomes(calls[2:])
            assert [read(one) for one in found] == [("2", b"77"), ("3", b"77")]  # type: ignore[arg-type]
            assert (len(only.received), len(only.cancelled)) == (2, 1)

    run(scenario())


def test_everybody_keeps_his_own_deadline(ask: Ask) -> None:
    async def scenario() -> None:
        only = worker(seconds=1.0)
        async with SimMesh(only) as mesh:
            await sharing(mesh, only)
            loop = asyncio.get_running_loop()
            began = loop.time()
            hasty = ask(mesh, payload=asks(7, "hasty"), timeout=0.5)
            patient = ask(mesh, payload=asks(7, "patient"), timeout=5)
            hastier = ask(mesh, payload=asks(7, "hastier"), timeout=0.2)
            with pytest.raises(DeadlineExceeded):
                await hastier
            assert loop.time() == pytest.approx(began + 0.2)
            with pytest.raises(DeadlineExceeded):
                await hasty
            assert loop.time() == pytest.approx(began + 0.5)
            assert read(await patient) == ("patient", b"77")
            assert loop.time() == pytest.approx(began + 1.5)

    run(scenario())


def test_a_failure_is_everybodys_and_is_not_kept(ask: Ask) -> None:
    async def scenario() -> None:
        only = worker()
        only.outcome = lambda _: (InvalidInput("a row is missing"), False)
        async with SimMesh(only) as mesh:
            await sharing(mesh, only)
            found = await outcomes([ask(mesh, payload=asks(7, f"{n}")) for n in range(3)])
            assert [type(one) for one in found] == [InvalidInput] * 3
            only.outcome = lambda _: None
            assert read(await ask(mesh, payload=asks(7, "again"))) == ("again", b"77")
            assert len(only.received) == 2

    run(scenario())


def test_all_are_answered_when_the_worker_dies_under_the_one_that_runs(ask: Ask) -> None:
    async def scenario() -> None:
        a, b = worker("a"), worker("b")
        async with SimMesh(a, b) as mesh:
            await sharing(mesh, a, b)
            calls = [ask(mesh, payload=asks(7, f"{n}")) for n in range(5)]
            await asyncio.sleep(0.05)
            (a if a.received else b).kill()
            found = await outcomes(calls)
            assert [read(one) for one in found] == [(f"{n}", b"77") for n in range(5)]  # type: ignore[arg-type]
            assert len(a.received) + len(b.received) == 2

    run(scenario())


def test_those_that_wait_for_an_answer_are_bounded_like_those_that_wait_for_a_worker(ask: Ask) -> None:
    async def scenario() -> None:
        only = worker()
        async with SimMesh(only) as mesh:
            await sharing(mesh, only, max_queue=2)
            found = await outcomes([ask(mesh, payload=asks(7, "x")) for _ in range(5)])
            assert [type(one) for one in found] == [bytes] * 3 + [Overloaded] * 2
        size = len(asks(7, "x"))
        async with SimMesh(only, limits=Limits(max_waiting_bytes=2 * size)) as mesh:
            await sharing(mesh, only)
            found = await outcomes([ask(mesh, payload=asks(7, "x")) for _ in range(5)])
            assert [type(one) for one in found] == [bytes] * 3 + [Overloaded] * 2
            assert mesh.core._directory.tally.bytes == 0

    run(scenario())


def test_a_gateway_that_stops_leaves_nobody_waiting(ask: Ask) -> None:
    async def scenario() -> None:
        only = worker(seconds=60)
        async with SimMesh(only) as mesh:
            await sharing(mesh, only)
            calls = [ask(mesh, payload=asks(7, f"{n}")) for n in range(3)]
            await settle()
        assert [type(one) for one in await outcomes(calls)] == [NotReady] * 3

    run(scenario())


def test_calls_that_wait_for_the_same_answer_outlive_the_going_of_their_version(ask: Ask) -> None:
    async def scenario() -> None:
        only = worker(credit=1, seconds=0.2)
        async with SimMesh(only) as mesh:
            await sharing(mesh, only)
            busy = ask(mesh, payload=asks(1, "busy"))
            calls = [ask(mesh, payload=asks(7, f"{n}")) for n in range(3)]  # the first waits for credit
            await settle()
            await mesh.route(deployed({"1": []}, weights={}))
            await sharing(mesh, only)
            found = await outcomes([busy, *calls])
            assert [read(one)[0] for one in found] == ["busy", "0", "1", "2"]  # type: ignore[arg-type]
            assert len(only.received) == 2

    run(scenario())
