"""The gRPC port on a real socket: opened, looked after, left."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import grpc.aio
import pytest
import structlog

from infermesh.errors import ConfigError
from infermesh.gateway.config import ClientLimits, GatewayConfig
from infermesh.gateway.door.connection import DoorConnection
from infermesh.gateway.door.door import Door
from infermesh.gateway.framing.frames import Limits
from infermesh.gateway.framing.guard import Guard
from infermesh.gateway.front import Front
from tests.unit.gateway.door_service import Service

SOON = 10.0


async def _nowhere(*_: object) -> None: ...


@asynccontextmanager
async def door(**limits: float) -> AsyncIterator[Door]:
    """Opens the port on the methods of the tests."""
    front = Front(Service().methods(), _nowhere, Guard(Limits()))
    config = GatewayConfig(grpc_listen="127.0.0.1:0", clients=ClientLimits(**limits))  # type: ignore[arg-type]
    async with Door(config, front, None) as made:
        yield made


async def becomes(condition: Callable[[], bool]) -> None:
    """Waits for something that happens soon."""
    async with asyncio.timeout(SOON):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def ask(channel: grpc.aio.Channel) -> bytes:
    answer: bytes = await channel.unary_unary("/test.Service/Direct")(b"hello", timeout=SOON)
    return answer


async def test_it_answers_and_tells_who_is_there() -> None:
    async with door() as port, grpc.aio.insecure_channel(port.address) as channel:
        assert port.active() == (0, 0)
        assert await ask(channel) == b"direct hello"
        hanging = channel.unary_unary("/test.Service/Hang")(b"")
        await becomes(lambda: port.active() == (1, 1))
        hanging.cancel()
        await becomes(lambda: port.active() == (0, 1))


async def test_who_comes_after_the_farewell_finds_nobody() -> None:
    async with door() as port, grpc.aio.insecure_channel(port.address) as channel:
        assert await ask(channel) == b"direct hello"
        port.leave()
        await becomes(lambda: port.active() == (0, 0))
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*port.address.split(":"))


async def test_a_fault_of_ours_in_a_look_ends_that_connection_and_no_look_at_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks: list[DoorConnection] = []

    def look(self: DoorConnection, now: float) -> None:
        looks.append(self)
        if self is looks[0]:
            raise KeyError("x")

    monkeypatch.setattr(DoorConnection, "look", look)
    with structlog.testing.capture_logs() as logs:
        async with door(header_timeout=0.04) as port:
            ends = [await asyncio.open_connection(*port.address.split(":")) for _ in range(2)]
            await becomes(lambda: len(looks) > 4)
            assert port.active() == (0, 1)
            for _, writer in ends:
                writer.close()
    assert [each["event"] for each in logs if each["log_level"] == "error"] == ["look failed"]


async def test_an_address_that_is_taken_is_a_bad_setting() -> None:
    async with door() as port:
        front = Front({}, _nowhere, Guard(Limits()))
        with pytest.raises(ConfigError, match="grpc_listen: can't bind"):
            async with Door(GatewayConfig(grpc_listen=port.address), front, None):
                raise AssertionError
