"""The life of the process inside Envoy: built at start-up, reported to the supervisor, torn down at the end.

Used by `app`, and by tests that mount something else.
"""

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import structlog
from pydantic import TypeAdapter

from infermesh.errors import ConfigError
from infermesh.gateway import control, front_tls
from infermesh.gateway.config import GatewayConfig
from infermesh.gateway.door.door import Door
from infermesh.gateway.framing.direct import Direct
from infermesh.gateway.framing.exchange import Scope, Send
from infermesh.gateway.framing.inbound import Receive
from infermesh.gateway.front import Front
from infermesh.mesh import garbage, log
from infermesh.mesh.health import Health

FOLDER_VARIABLE: Final = "INFERMESH_FRONT_DOOR"
"""Environment variable that tells the app its folder: the configuration and the control socket are in there."""
CONFIG_FILE: Final = "gateway.json"
CONTROL_SOCKET: Final = "control.sock"
_PR_SET_PDEATHSIG: Final = 1

Building = Callable[[GatewayConfig, Health], contextlib.AbstractAsyncContextManager[Front]]
"""Builds the front; open from start-up to shutdown."""


async def live(scope: Scope, receive: Receive, send: Send, building: Building) -> None:
    """Runs ASGI's lifespan: builds the front, reports to the supervisor, obeys it, tears down at the end."""
    await receive()
    _die_with_parent()
    asyncio.get_running_loop().set_task_factory(_task)
    folder = Path(os.environ[FOLDER_VARIABLE])
    config = TypeAdapter(GatewayConfig).validate_json((folder / CONFIG_FILE).read_bytes())
    log.configure("gateway", config.process.log.level)
    health = Health()
    heard: dict[str, Callable[[], None]] = {control.DRAIN: health.stop}
    line = control.AppEnd(folder / CONTROL_SOCKET, heard, _end_process)
    heard[control.PING] = lambda: line.say(control.PONG)
    await line.open()
    try:
        async with building(config, health) as front, _door(config, front) as door:
            heard[control.CLOSE] = partial(_close, front, door)
            heard[control.COUNT] = partial(_count, line, door)
            # twice a silent call is looked at before it would be cut
            life = asyncio.create_task(front.show_life(config.clients.stall_timeout / 3))
            scope["state"]["front"] = front
            garbage.settle()
            line.say(f"{control.READY} {door.address if door is not None else ''}")
            telling = asyncio.create_task(_tell_serving(health, line))
            await send({"type": "lifespan.startup.complete"})
            await receive()
            telling.cancel()
            life.cancel()
            await line.close()
    except Exception as error:
        if not isinstance(error, ConfigError):  # which says all; the supervisor ends with it
            structlog.get_logger(__name__).error("the app failed", exc_info=error)
        line.say(f"{control.FAILED} {error}")
        await send({"type": "lifespan.startup.failed", "message": str(error)})
    else:
        await send({"type": "lifespan.shutdown.complete"})


def _door(config: GatewayConfig, front: Front) -> contextlib.AbstractAsyncContextManager[Door | None]:
    if not config.grpc_listen:
        return contextlib.nullcontext()
    return Door(config, front, front_tls.certificates(config.front_tls))


def _close(front: Front, door: Door | None) -> None:
    front.close()
    if door is not None:
        door.leave()


def _count(line: control.AppEnd, door: Door | None) -> None:
    calls, connections = door.active() if door is not None else (0, 0)
    line.say(f"{control.COUNTED} {calls} {connections}")


async def _tell_serving(health: Health, line: control.AppEnd) -> None:
    """Passes on to the supervisor, whose health service the platform asks, that there is somewhere to send calls."""
    async for _ in health.watch(""):
        if health.serving():
            line.say(control.SERVING)
            return


def _task(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> Any:
    """Makes tasks of coroutines only: a direct call is no coroutine and needs none."""
    return work if type(work) is Direct else asyncio.Task(work, loop=loop, **options)


def _end_process() -> None:
    # the supervisor is gone without a word: nobody would ever end us
    os.kill(os.getpid(), signal.SIGTERM)


def _die_with_parent() -> None:
    """Asks the kernel to end us with the supervisor, in case our event loop is stuck when the line to it breaks."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
