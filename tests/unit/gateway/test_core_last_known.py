"""The routes of an earlier life: kept, used only where there are no others, never trusted blindly."""

import asyncio
from pathlib import Path
from random import Random

import pytest

from infermesh.errors import NotFound, NotReady
from infermesh.gateway.admission import Limits
from infermesh.gateway.last_known import LastKnown
from infermesh.gateway.watch import RouteWatch, Snapshots
from infermesh.mesh.kept_file import KeptFile
from infermesh.v1.scheduler_service_pb2 import RouteSnapshot
from tests.unit.gateway.simulation import SimMesh, SimScheduler, SimWorker, deployed, settle, snapshot
from tests.unit.gateway.virtual import run

A, B = SimWorker("a", {}), SimWorker("b", {})
OLD = snapshot(deployed({"1": [A, B]}), workers=[A, B], revision=5, epoch="old")
LIVE = snapshot(deployed({"1": [B]}), workers=[B], revision=1, epoch="new")


class Watching:
    """A watch that begins with the routes of an earlier life."""

    def __init__(self, known: RouteSnapshot | None = OLD) -> None:
        self.scheduler = SimScheduler()
        self.used: list[RouteSnapshot] = []
        self.kept: list[RouteSnapshot] = []
        self.snapshots = Snapshots(
            self.used.append, {"a", "b"}.__contains__, settle=10.0, known=known, keep=self.kept.append
        )

    async def __aenter__(self) -> "Watching":
        self._running = asyncio.create_task(RouteWatch(self.scheduler.subscribe, self.snapshots, Random(1)).run())
        await settle()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._running.cancel()

    @property
    def workers(self) -> set[str]:
        return {worker.id for worker in self.used[-1].workers}


def test_they_are_used_as_soon_as_no_scheduler_is_there() -> None:
    async def scenario() -> None:
        watching = Watching()
        watching.scheduler.kill()
        async with watching:
            assert watching.used == [OLD]
            assert watching.kept == [], "they are kept already"

    run(scenario())


def test_a_scheduler_that_says_nothing_is_waited_for_a_moment_only() -> None:
    async def scenario() -> None:
        async with Watching() as watching:
            await asyncio.sleep(0.5)
            assert watching.used == []
            await asyncio.sleep(1)
            assert watching.used == [OLD]

    run(scenario())


def test_they_are_not_used_once_a_scheduler_has_spoken() -> None:
    async def scenario() -> None:
        async with Watching() as watching:
            watching.scheduler.publish(LIVE)
            await settle()
            watching.scheduler.kill()
            await asyncio.sleep(5)
            assert watching.used == [LIVE] * len(watching.used)
            assert watching.kept[-1] == LIVE

    run(scenario())


def test_a_live_scheduler_takes_over_without_dropping_what_works() -> None:
    async def scenario() -> None:
        watching = Watching()
        watching.scheduler.kill()
        async with watching:
            watching.scheduler.up = True
            watching.scheduler.publish(LIVE)
            await asyncio.sleep(3)
            assert watching.workers == {"a", "b"}
            await asyncio.sleep(10)
            assert watching.workers == {"b"}
            assert watching.kept[-1] == LIVE

    run(scenario())


def test_old_routes_that_cannot_be_used_end_nothing() -> None:
    async def scenario() -> None:
        watching = Watching()

        def apply(routes: RouteSnapshot) -> None:
            if routes == OLD:
                raise ValueError("no release that runs now can use this")
            watching.used.append(routes)

        watching.snapshots = Snapshots(apply, lambda _: True, settle=10.0, known=OLD)
        async with watching:
            await asyncio.sleep(2)
            watching.scheduler.publish(LIVE)
            await settle()
            assert watching.used == [LIVE]

    run(scenario())


def test_calls_that_come_before_any_routes_wait_for_them() -> None:
    async def scenario() -> None:
        worker = SimWorker("a", {"digits/1": 4})
        async with SimMesh(worker) as mesh:
            early, unknown = mesh.infer(), mesh.infer(deployment="unheard-of")
            await asyncio.sleep(3)
            assert not early.done()
            await mesh.route(deployed({"1": [worker]}))
            assert await early == b"a|digits/1|x"
            with pytest.raises(NotFound):
                await unknown

    run(scenario())


def test_calls_do_not_wait_for_ever_for_a_scheduler() -> None:
    async def scenario() -> None:
        async with SimMesh(limits=Limits(hold=5)) as mesh:
            early = mesh.infer()
            began = asyncio.get_running_loop().time()
            with pytest.raises(NotReady):
                await early
            assert asyncio.get_running_loop().time() - began == pytest.approx(5, abs=0.01)
            late = mesh.infer()
            with pytest.raises(NotReady):
                await late
            assert asyncio.get_running_loop().time() - began == pytest.approx(5, abs=0.01)

    run(scenario())


async def test_the_newest_routes_are_on_the_disk(tmp_path: Path) -> None:
    known = LastKnown(tmp_path)
    assert known.read() is None
    known.keep(OLD)
    known.keep(LIVE)
    writing = asyncio.create_task(known.run())
    async with asyncio.timeout(5):
        while LastKnown(tmp_path).read() != LIVE:  # noqa: ASYNC110  # a file tells nobody
            await asyncio.sleep(0.001)
    known.keep(OLD)
    await asyncio.sleep(0)
    writing.cancel()
    await asyncio.wait({writing})
    assert LastKnown(tmp_path).read() == OLD, "an end is no reason to forget"


async def test_what_cannot_be_read_is_done_without(tmp_path: Path) -> None:
    KeptFile(tmp_path / "routes").write(b"\xff\xff whole, but no routes")
    assert LastKnown(tmp_path).read() is None


async def test_what_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    known = LastKnown(tmp_path / "file")
    known.keep(OLD)
    writing = asyncio.create_task(known.run())
    await asyncio.sleep(0.05)
    assert not writing.done()
    writing.cancel()
    await asyncio.wait({writing})
