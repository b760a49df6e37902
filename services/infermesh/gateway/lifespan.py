"""The life of the process inside Envoy: built at start-up, reported to the supervisor, torn down at the end.

Used by `app`, and by tests that mount something else.
"""

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog
from pydantic import TypeAdapter

from infermesh.gateway import control
from infermesh.gateway.config import GatewayConfig
from infermesh.gateway.framing.exchange import Scope, Send
from infermesh.gateway.framing.inbound import Receive
from infermesh.gateway.front import Front
from infermesh.mesh import log
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
    folder = Path(os.environ[FOLDER_VARIABLE])
    config = TypeAdapter(GatewayConfig).validate_json((folder / CONFIG_FILE).read_bytes())
    log.configure("gateway", config.process.log.level)
    health = PublicHealth()
    heard: dict[str, Callable[[], None]] = {control.DRAIN: health.stop}
    line = control.AppEnd(folder / CONTROL_SOCKET, heard, _end_process)
    await line.open()
    try:
        async with building(config, health) as front:
            heard[control.CLOSE] = front.close
            scope["state"]["front"] = front
            line.say(control.READY)
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await line.close()
    except Exception as error:
        structlog.get_logger(__name__).error("the app failed", exc_info=error)
        line.say(f"{control.FAILED} {error}")
        await send({"type": "lifespan.startup.failed", "message": str(error)})
    else:
        await send({"type": "lifespan.shutdown.complete"})


class PublicHealth(Health):
    """What the public health service says. Once stopped it stays so, whatever happens during the lame-duck time."""

    _stopped = False

    def set(self, service: str, serving: bool) -> None:
        """Sets the status of a service, unless the process is stopping."""
        super().set(service, serving and not self._stopped)

    def stop(self) -> None:
        """Sets every service to NOT_SERVING, for good."""
        self._stopped = True
        super().stop()


def _end_process() -> None:
    # the supervisor is gone without a word: nobody would ever end us
    os.kill(os.getpid(), signal.SIGTERM)


def _die_with_parent() -> None:
    """Asks the kernel to end us with the supervisor, in case our event loop is stuck when the line to it breaks."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
