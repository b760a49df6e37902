"""Starts and stops a gateway process: the supervisor with its health service, Envoy with the app beneath it."""

import asyncio
import contextlib
import os
from collections.abc import Sequence
from typing import Final

import structlog

from infermesh.gateway import envoy
from infermesh.gateway.config import GatewayConfig
from infermesh.gateway.scrape import AppMetrics
from infermesh.gateway.supervisor import Supervisor
from infermesh.mesh.config import load
from infermesh.mesh.health import LIVENESS
from infermesh.mesh.process import Process, run

_LOOK: Final = 1.0  # seconds between two questions to the app whether it lives
_LOOK_CONNECTED: Final = 0.25  # seconds between two questions to Envoy whether anybody is connected
_PATIENCE: Final = 10.0  # seconds without an answer after which it counts as stuck: overload delays one, too


async def main(argv: Sequence[str], app: str = envoy.APP) -> None:
    """Runs a gateway until SIGTERM; `app` is what Envoy runs, `module:attribute`.

    Raises ConfigError for a bad setting, SystemExit(1) if Envoy dies.
    """
    config = load(GatewayConfig, argv, os.environ, room="gateway")
    async with Process("gateway", config.process) as process, Supervisor(config, app) as front:
        process.metrics.register(AppMetrics(front.metrics, [family.name for family in process.metrics.collect()]))
        own = {"grpc_port": front.grpc_address} if front.grpc_address else {}
        process.listening(grpc=front.address, http=front.address, **own)
        watching = asyncio.create_task(watch_app(process, front))
        try:
            await serve(process, front, config.clients.max_address_age)
            await front.drain(config.process.drain.timeout)
        finally:
            watching.cancel()


async def serve(process: Process, front: Supervisor, linger: float = 0.0) -> None:
    """Returns once the process was told to stop, sat out the lame-duck time, and let `linger` seconds pass or all
    clients go. Raises SystemExit(1) if Envoy dies."""
    stopped = asyncio.create_task(_until_left(process, front, linger))
    died = asyncio.create_task(front.died())
    mirror = asyncio.create_task(_mirror_health(process, front))
    ready = asyncio.create_task(_follow_app(process, front))
    try:
        await asyncio.wait({stopped, died}, return_when=asyncio.FIRST_COMPLETED)
        if died.done():
            structlog.get_logger(__name__).error("envoy died", status=died.result())
            raise SystemExit(1)
    finally:
        for task in (stopped, died, mirror, ready):
            task.cancel()


async def _until_left(process: Process, front: Supervisor, linger: float) -> None:
    """A client that was sent away looks names up again, but gRPC's own not more often than every 30 s: until then this
    gateway may be the only one it knows that is still there, as others may have gone since it last looked."""
    await process.until_stopped()
    with contextlib.suppress(TimeoutError, OSError):
        async with asyncio.timeout(linger):
            while await front.connected():  # noqa: ASYNC110  # Envoy only answers questions
                await asyncio.sleep(_LOOK_CONNECTED)


async def _follow_app(process: Process, front: Supervisor) -> None:
    """Says SERVING only once the app has routes: from then on a platform sends calls here, and ends another gateway."""
    await front.serving()
    process.serving()


async def _mirror_health(process: Process, front: Supervisor) -> None:
    """Tells the public health service at the very beginning of the lame-duck time."""
    await process.until_told()
    front.not_serving()


async def watch_app(process: Process, front: Supervisor, look: float = _LOOK, patience: float = _PATIENCE) -> None:
    """Says, for ever, that this process is alive as long as the app is: our own loop turns when the app's is stuck."""
    while True:
        alive = await front.answers(patience)
        if alive != process.health.serving(LIVENESS):
            structlog.get_logger(__name__).error("the app is back" if alive else "the app does not answer")
            process.health.set(LIVENESS, alive)
        await asyncio.sleep(look)


def cli() -> int:
    """Runs the gateway with the command line of this process; returns its exit status."""
    return run(main)
