"""What the supervisor's process does when it is told to stop, and when Envoy dies."""

import asyncio

import pytest

from infermesh.gateway.main import serve, watch_app
from infermesh.mesh.health import LIVENESS, Health
from tests.unit.gateway.virtual import run


class Told:
    """A process that is told to stop, and then sits out its lame-duck time."""

    def __init__(self) -> None:
        self.told, self.stopped = asyncio.Event(), asyncio.Event()
        self.said: list[str] = []
        self.health = Health()

    async def until_told(self) -> None:
        await self.told.wait()

    async def until_stopped(self) -> None:
        await self.stopped.wait()

    def serving(self) -> None:
        self.said.append("serving")


class Envoy:
    """An Envoy with an app in it."""

    def __init__(self) -> None:
        self.dead: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.app = asyncio.Event()
        self.said: list[str] = []
        self.turns = True
        self.clients = 0

    async def died(self) -> int:
        return await self.dead

    async def serving(self) -> None:
        await self.app.wait()

    async def answers(self, timeout: float) -> bool:
        return self.turns

    async def connected(self) -> bool:
        return self.clients > 0

    def not_serving(self) -> None:
        self.said.append("not serving")


async def begun(linger: float = 0.0) -> tuple[Told, Envoy, "asyncio.Task[None]"]:
    process, front = Told(), Envoy()
    return process, front, asyncio.create_task(serve(process, front, linger))  # type: ignore[arg-type]


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_it_serves_when_the_app_does() -> None:
    process, front, task = await begun()
    await turns()
    assert process.said == []
    front.app.set()
    await turns()
    assert process.said == ["serving"]
    process.stopped.set()
    await task


async def test_the_public_health_says_so_before_the_lame_duck_time_and_not_after() -> None:
    process, front, task = await begun()
    await turns()
    assert front.said == []
    process.told.set()
    await turns()
    assert (front.said, task.done()) == (["not serving"], False)
    process.stopped.set()
    await task


@pytest.mark.parametrize(("clients", "leave", "served"), [(0, 0, 0), (2, 9, 9), (2, 99, 30)])
def test_it_lingers_as_long_as_clients_may_know_no_other(clients: int, leave: float, served: float) -> None:
    async def scenario() -> None:
        process, front, task = await begun(linger=30)
        front.clients = clients
        await asyncio.sleep(50)  # nobody has told it to stop
        assert not task.done()
        loop, began = asyncio.get_running_loop(), asyncio.get_running_loop().time()
        loop.call_later(leave, setattr, front, "clients", 0)
        process.stopped.set()
        await task
        assert loop.time() - began == pytest.approx(served, abs=0.3)

    run(scenario())


async def test_without_envoy_it_ends_with_status_1() -> None:
    front = Envoy()
    front.dead.set_result(139)
    with pytest.raises(SystemExit) as caught:
        await serve(Told(), front)  # type: ignore[arg-type]
    assert caught.value.code == 1


async def test_it_is_alive_as_long_as_the_app_answers_also_while_it_stops() -> None:
    process, front = Told(), Envoy()
    watching = asyncio.create_task(watch_app(process, front, look=0.0))  # type: ignore[arg-type]
    process.health.stop()
    for front.turns in (True, False, True):
        await turns()
        assert process.health.serving(LIVENESS) == front.turns
    watching.cancel()
