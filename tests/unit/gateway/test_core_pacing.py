"""What comes while a worker has yet to answer waits: for an answer, or until as much waits as it has, or a moment."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from infermesh.gateway.calls import Call
from tests.unit.gateway.simulation import SimMesh, SimWorker, deployed, outcomes, settle
from tests.unit.gateway.virtual import run

TARGET = "digits/1"
LONG = 10.0  # seconds of a call, where no answer shall come in time


def played(seconds: float, scenario: Callable[[SimMesh], Awaitable[None]]) -> list[int]:
    """Plays a scenario with one worker; returns how many items each bundle had."""
    worker = SimWorker("a", {TARGET: 100}, seconds=seconds)

    async def play() -> None:
        async with SimMesh(worker) as mesh:
            await mesh.route(deployed({"1": [worker]}))
            await scenario(mesh)

    run(play())
    assert not worker.violations
    return [len(bundle.items) for bundle in worker.bundles[1:]]


def test_bundles_grow_to_what_is_under_way() -> None:
    async def scenario(mesh: SimMesh) -> None:
        calls = []
        for _ in range(16):
            calls.append(mesh.infer())
            await settle()
        await outcomes(calls)

    assert played(0.001, scenario) == [1, 1, 2, 4, 8]


def test_an_answer_lets_go_what_waits() -> None:
    async def scenario(mesh: SimMesh) -> None:
        calls = [mesh.infer() for _ in range(8)]
        await settle()
        calls += [mesh.infer() for _ in range(3)]
        await outcomes(calls)

    assert played(0.001, scenario) == [1, 7, 3]


@pytest.mark.parametrize("waiting", [1, 3])
def test_nothing_is_held_for_longer_than_two_ticks(waiting: int) -> None:
    async def scenario(mesh: SimMesh) -> None:
        calls = [mesh.infer() for _ in range(8)]
        await settle()
        calls += [mesh.infer() for _ in range(waiting)]
        await asyncio.sleep(0.0101)
        for call in calls:
            call.cancel()

    sizes = played(LONG, scenario)
    assert sizes[:3] == [1, 7, waiting]
    assert sum(sizes[3:]) == 8 + waiting  # all of them had left, and are taken back


def test_streams_are_never_held() -> None:
    async def scenario(mesh: SimMesh) -> None:
        calls = [mesh.infer() for _ in range(8)]
        await settle()
        stream = mesh.core.dispatcher.stream(Call("digits", "", b"s"))
        await settle()
        await stream.aclose()
        await outcomes(calls)

    assert played(0.001, scenario) == [1, 7, 1, 1]


def test_what_is_withdrawn_while_it_is_held_never_leaves() -> None:
    async def scenario(mesh: SimMesh) -> None:
        calls = [mesh.infer() for _ in range(8)]
        await settle()
        held = [mesh.infer() for _ in range(3)]
        await settle()
        held[1].cancel()
        await outcomes([*calls, held[0], held[2]])

    assert played(0.001, scenario) == [1, 7, 2]


def test_a_worker_that_is_left_with_nothing_holds_nothing_back() -> None:
    async def scenario(mesh: SimMesh) -> None:
        calls = [mesh.infer() for _ in range(8)]
        await settle()
        calls.append(mesh.infer())
        await settle()
        for call in calls[:8]:
            call.cancel()
        await settle()
        calls[8].cancel()

    sizes = played(LONG, scenario)
    assert sizes[:2] == [1, 7]
    assert sizes[2] == 9  # eight cancels, and at once the call that waited


def test_what_a_lost_worker_held_back_goes_elsewhere() -> None:
    async def scenario() -> None:
        first, second = SimWorker("a", {TARGET: 100}, seconds=0.05), SimWorker("b", {}, seconds=0.001)
        async with SimMesh(first, second) as mesh:
            await mesh.route(deployed({"1": [first, second]}))
            calls = [mesh.infer() for _ in range(8)]
            await settle()
            calls += [mesh.infer() for _ in range(3)]
            await settle()
            second.targets[TARGET] = 100
            second.set_credit(TARGET, 100)
            first.kill()
            answers = await outcomes(calls)
        assert [type(answer) for answer in answers] == [bytes] * 11
        assert len(first.received) == 8
        assert len(second.received) == 11

    run(scenario())
