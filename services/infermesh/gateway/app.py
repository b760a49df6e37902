"""The application that Envoy runs: put together at start-up from what the supervisor left in their common folder.

This is the composition root of the process inside Envoy, as `main` is that of the supervisor's.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from functools import partial
from pathlib import Path
from typing import Final

import grpc.aio
from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector

from infermesh.gateway import protection
from infermesh.gateway.config import GatewayConfig
from infermesh.gateway.core import Core
from infermesh.gateway.demand import telling
from infermesh.gateway.framing.exchange import Scope, Send
from infermesh.gateway.framing.guard import Guard
from infermesh.gateway.framing.inbound import Receive
from infermesh.gateway.front import Front, mount
from infermesh.gateway.frontends import TABLE
from infermesh.gateway.frontends.base import Parts
from infermesh.gateway.last_known import LastKnown
from infermesh.gateway.lifespan import FOLDER_VARIABLE, live
from infermesh.gateway.scrape import FILE, offered
from infermesh.gateway.streams import WireServeStream
from infermesh.gateway.watch import subscription
from infermesh.mesh.channel import connect
from infermesh.mesh.health import Health
from infermesh.mesh.telemetry import Telemetry
from infermesh.mesh.tls import Certificates, mutual

_LOOK_AGAIN: Final = 0.05


class App:
    """The ASGI callable: serves one request, or the life of the process (ASGI lifespan)."""

    _asgi_single_callable = True  # what it gives need not be a coroutine

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Returns what serves the request; `lifespan` has the loop know that it may be no coroutine."""
        if scope["type"] == "lifespan":
            return live(scope, receive, send, serving)
        serve: Front = scope["state"]["front"]
        return serve(scope, receive, send)


app = App()


@contextlib.asynccontextmanager
async def serving(config: GatewayConfig, health: Health) -> AsyncIterator[Front]:
    """Builds the gateway: core, ways to the other rooms, front ends."""
    metrics = CollectorRegistry()
    ProcessCollector(registry=metrics)
    PlatformCollector(registry=metrics)
    telemetry = Telemetry("gateway", config.process.telemetry)
    async with contextlib.AsyncExitStack() as exits:
        exits.callback(telemetry.stop)
        await exits.enter_async_context(offered(Path(os.environ[FOLDER_VARIABLE]) / FILE, metrics))
        certificates = mutual(config.process.tls)
        registry = await exits.enter_async_context(connect(config.registry, certificates))
        scheduler = await exits.enter_async_context(connect(config.scheduler, certificates))
        name = config.name or f"{socket.gethostname()}-{os.getpid()}"
        core = Core(
            gateway=name,
            subscribe=subscription(scheduler, name),
            registry=metrics,
            tracer=telemetry.tracer,
            limits=config.dispatch_limits,
            connect=partial(WireServeStream, certificates=certificates),
            last_known=LastKnown(Path(config.state)) if config.state else None,
            tell=telling(scheduler),
        )
        workers = Ways(certificates)
        exits.push_async_callback(workers.close)
        await core.start()
        exits.push_async_callback(core.stop)
        services: set[str] = set()
        closers: list[Callable[[], None]] = []
        guard, channels = Guard(protection.requests(config)), (registry, scheduler, workers)
        parts = Parts(core, *channels, health, metrics, lambda: services, closers.append, guard)
        front = mount([TABLE.load(name)(parts) for name in config.frontends or TABLE.names()], guard, closers)
        services.update(front.services())
        readiness = asyncio.create_task(_follow(core, health, services))
        exits.callback(readiness.cancel)
        yield front


class Ways:
    """Channels by address, dialled when first asked for."""

    def __init__(self, certificates: Certificates | None) -> None:
        self._certificates = certificates
        self._channels: dict[str, grpc.aio.Channel] = {}

    def __call__(self, address: str) -> grpc.aio.Channel:
        """Returns the channel to an address (host:port)."""
        if address not in self._channels:
            self._channels[address] = connect(address, self._certificates)
        return self._channels[address]

    async def close(self) -> None:
        """Closes every channel."""
        for channel in self._channels.values():
            await channel.close()


async def _follow(core: Core, health: Health, services: Collection[str]) -> None:
    """Says SERVING once there are routes. They are never lost again: the last known ones go on being served."""
    for service in services:
        health.set(service, False)
    while not core.connected():  # noqa: ASYNC110  # asked only until the first snapshot
        await asyncio.sleep(_LOOK_AGAIN)
    for service in ("", *services):
        health.set(service, True)
