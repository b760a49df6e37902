"""Following the registry through its absences; in virtual time, with a played stream."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import grpc
import grpc.aio

from infermesh.mesh.backoff import Backoff
from infermesh.scheduler.desired import DesiredWatcher
from infermesh.scheduler.model import Desired
from infermesh.testing.clock import FakeClock
from infermesh.v1.state_service_pb2 import DesiredState, WatchDesiredRequest

UNAVAILABLE = grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), "away")


class PlayedRegistry:
    """Each stream gives its revisions, then ends as the script says: with an error, normally, or never."""

    def __init__(self, *streams: list[int | Exception | None]) -> None:
        self.streams = list(streams)
        self.opened: list[float] = []
        self.clock = FakeClock()
        self.taken: list[int] = []
        self.connected: list[bool] = []

    async def watch(self, request: WatchDesiredRequest) -> AsyncIterator[DesiredState]:
        self.opened.append(self.clock.time() - 1_000.0)
        script = self.streams.pop(0) if self.streams else [UNAVAILABLE]
        for step in script:
            if isinstance(step, Exception):
                raise step
            if step is None:
                await asyncio.Event().wait()
            else:
                yield DesiredState(revision=step)

    async def play(self, seconds: float) -> None:
        def take(desired: Desired) -> None:
            self.taken.append(desired.revision)

        watcher = DesiredWatcher(self.watch, take, self.connected.append, self.clock, Backoff(lambda: 1.0))
        task = asyncio.ensure_future(watcher.run())
        await self.clock.advance(seconds)
        assert not task.done(), "it goes on for ever"
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_every_snapshot_is_handed_on() -> None:
    registry = PlayedRegistry([1, 2, 3, None])
    await registry.play(1)
    assert registry.taken == [1, 2, 3]
    assert registry.connected == [True]


async def test_a_broken_stream_is_taken_up_again() -> None:
    registry = PlayedRegistry([1, UNAVAILABLE], [UNAVAILABLE], [2, None])
    await registry.play(1)
    assert registry.taken == [1, 2]
    assert registry.connected == [True, False, False, True]


async def test_a_stream_that_ends_is_taken_up_again() -> None:
    registry = PlayedRegistry([1], [2, None])
    await registry.play(1)
    assert registry.taken == [1, 2]


async def test_tries_become_rarer_but_never_rarer_than_every_two_seconds() -> None:
    registry = PlayedRegistry()
    await registry.play(60)
    pauses = [round(b - a, 3) for a, b in zip(registry.opened, registry.opened[1:], strict=False)]
    assert pauses[:3] == [0.1, 0.16, 0.256]
    assert set(pauses[8:]) == {2.0}
    assert not registry.taken


async def test_after_a_success_the_first_try_comes_soon_again() -> None:
    registry = PlayedRegistry(*[[UNAVAILABLE]] * 10, [1, UNAVAILABLE], [2, None])
    await registry.play(60)
    assert round(registry.opened[11] - registry.opened[10], 3) == 0.1


def test_jitter_spreads_the_tries() -> None:
    def first(random: Callable[[], float]) -> float:
        return Backoff(random).pause()

    assert (first(lambda: 0.0), first(lambda: 1.0)) == (0.05, 0.1)
