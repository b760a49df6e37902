"""Listens on the gRPC port. Made by `app`."""

import asyncio
import contextlib
from functools import partial
from typing import Final

import structlog

from infermesh.gateway.config import GatewayConfig
from infermesh.gateway.door.call import Desk
from infermesh.gateway.door.connection import DoorConnection, Port
from infermesh.gateway.framing.vigil import Vigil
from infermesh.gateway.front import Front
from infermesh.mesh.http2.server import Server, Terms
from infermesh.mesh.tls import Certificates

_LOOK: Final = 1.0
"""Seconds between two looks at what stands still, or less where a limit is short."""


class Door:
    """An async context manager: open from when it is entered until it is left. Entering raises ConfigError."""

    def __init__(self, config: GatewayConfig, front: Front, certificates: Certificates | None) -> None:
        loop = asyncio.get_running_loop()
        settled: asyncio.Future[None] = loop.create_future()
        settled.set_result(None)
        desk = Desk(front.serve, config.max_body_bytes, loop, settled, set(), Vigil())
        methods = {path.encode(): method for path, method in front.methods.items()}
        self._port = Port(methods, desk, config.clients, config.held_bytes)
        limits = config.clients
        self._server = Server(
            config.grpc_listen,
            partial(DoorConnection, self._port),
            certificates,
            Terms(limits.max_connections, limits.header_timeout),
            setting="grpc_listen",
        )
        self._pause = min(_LOOK, limits.header_timeout / 4, limits.stall_timeout / 4, limits.idle_timeout / 4)
        self._exits = contextlib.AsyncExitStack()

    @property
    def address(self) -> str:
        """host:port that it got."""
        return self._server.address

    async def __aenter__(self) -> "Door":
        await self._exits.enter_async_context(self._server)
        self._exits.callback(asyncio.create_task(self._look()).cancel)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exits.aclose()

    def active(self) -> tuple[int, int]:
        """Returns how many calls are under way, and how many connections are open."""
        connections = self._server.connections
        return sum(len(each.streams) for each in connections), len(connections)

    def leave(self) -> None:
        """Takes no new connections, and sends those that are open elsewhere, once what they have begun is served."""
        self._port.leaving = True
        self._server.shut()
        for connection in list(self._server.connections):
            connection.leave()

    async def _look(self) -> None:
        """Looks, for ever, for what stands still."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._pause)
            for connection in list(self._server.connections):
                try:
                    connection.look(loop.time())
                except Exception as error:  # a fault of ours with one must not end the looks at the others
                    structlog.get_logger(__name__).error("look failed", exc_info=error)
                    connection.abort("a fault of ours")
