"""Starts Envoy with our app in it, watches it, drains and ends it. Used by `main` only.

Envoy takes SIGTERM as an order to stop at once and cut the calls under way, so it never gets one while it is well: it
is drained through its admin interface and asked to quit.
"""

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import structlog
from pydantic import TypeAdapter

from infermesh.errors import ConfigError
from infermesh.gateway import control, envoy, farewell, front_tls, scrape
from infermesh.gateway.admin import Admin
from infermesh.gateway.config import GatewayConfig
from infermesh.gateway.lifespan import CONFIG_FILE, CONTROL_SOCKET, FOLDER_VARIABLE

_START_TIMEOUT: Final = 60.0
_COUNT_TIMEOUT: Final = 5.0


class Supervisor:
    """One Envoy process, an async context manager: entering returns when it serves, leaving ends it.

    Entering raises ConfigError if it can't start.
    """

    def __init__(self, config: GatewayConfig, app: str = envoy.APP) -> None:
        self._config = config
        self._app = app
        self._log = structlog.get_logger(__name__)
        self._folder = Path()
        self._process: subprocess.Popen[bytes] | None = None
        self._exits = contextlib.AsyncExitStack()
        self.address = ""
        """Address (host:port) that the public port got."""
        self.grpc_address = ""
        """That of the gRPC port, if there is one."""

    async def __aenter__(self) -> Self:
        async with self._exits:
            front_tls.check(self._config.front_tls)
            self._folder = Path(tempfile.mkdtemp(prefix="infermesh-gateway-"))
            self._exits.callback(shutil.rmtree, self._folder, ignore_errors=True)
            self._control = control.SupervisorEnd(self._folder / CONTROL_SOCKET)
            await self._control.open()
            self._exits.push_async_callback(self._control.close)
            self._admin = Admin(self._folder / "admin.sock")
            self._process = self._spawn()
            self._exit = asyncio.create_task(asyncio.to_thread(self._process.wait))
            self._exits.push_async_callback(self._end)
            async with asyncio.timeout(_START_TIMEOUT):
                self.grpc_address = await self._or_dead(self._control.ready())
                self.address = await self._or_dead(self._bound())
            self._exits = self._exits.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._exits.aclose()

    @property
    def metrics(self) -> Path:
        """The socket at which the app gives its metrics."""
        return self._folder / scrape.FILE

    async def died(self) -> int:
        """Returns Envoy's exit status once it is gone."""
        return await asyncio.shield(self._exit)

    async def serving(self) -> None:
        """Returns once the app knows where to send calls."""
        await self._control.serving()

    async def answers(self, timeout: float) -> bool:
        """Tells whether the app's loop turns: whether it gives a sign of life within `timeout` seconds."""
        return await self._control.answers(timeout)

    def not_serving(self) -> None:
        """Makes the public health service answer NOT_SERVING; everything goes on being served."""
        self._control.say(control.DRAIN)

    async def connected(self) -> bool:
        """Tells whether any client is connected. Raises OSError if Envoy is gone."""
        _, connections = await self._active()
        return connections > 0

    async def _active(self) -> tuple[int, int]:
        """Returns how many calls are under way, and how many connections are open, on all ports."""
        requests, connections = await self._admin.active()
        if not self.grpc_address:
            return requests, connections
        calls, more = await self._control.count(_COUNT_TIMEOUT)
        return requests + calls, connections + more

    async def drain(self, timeout: float) -> None:
        """Refuses new connections and sends the open ones away; ends Envoy when they are gone.

        All of it may take up to `timeout` seconds. A client that asks for nothing, but stays, is waited for only until
        it must have heard that it shall go, and read its last answer.
        """
        self._control.say(control.CLOSE)
        farewell.begin(self._folder / farewell.FILE)
        await self._admin.drain()
        clock = asyncio.get_running_loop().time
        began = busy = clock()
        while True:
            requests, connections = await self._active()
            busy = clock() if requests else busy
            if not connections or clock() - began >= timeout or clock() - busy >= farewell.LONGEST:
                break
            await asyncio.sleep(0.05)
        if requests:
            self._log.warning("drain timed out", under_way=requests, timeout=timeout)
        await self._end()

    def _spawn(self) -> subprocess.Popen[bytes]:
        tree = envoy.bootstrap(self._config, self._folder / "admin.sock", self._app)
        bootstrap = self._folder / "envoy.json"
        bootstrap.write_text(json.dumps(tree))
        front_tls.write_secrets(self._config.front_tls, self._folder)
        farewell.prepare(self._folder / farewell.FILE)
        config = TypeAdapter(GatewayConfig).dump_json(self._config)
        (self._folder / CONFIG_FILE).write_bytes(config)
        # not asyncio's: that forks in a process in which gRPC has threads, this one starts the child without a fork
        return subprocess.Popen(
            envoy.command(self._config, bootstrap),
            env=envoy.environment(os.environ) | {FOLDER_VARIABLE: str(self._folder)},
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            start_new_session=True,  # Ctrl-C is for us; Envoy would take it as an order to cut every call
        )

    async def _bound(self) -> str:
        while True:  # Envoy only answers questions
            with contextlib.suppress(OSError):  # it may be ending; then `_or_dead` says so
                if address := await self._admin.address():
                    return address
            await asyncio.sleep(0.01)

    async def _or_dead(self, waiting: Any) -> Any:
        """Returns what `waiting` gives. Raises ConfigError if Envoy dies first."""
        task, dead = asyncio.ensure_future(waiting), asyncio.ensure_future(self.died())
        try:
            await asyncio.wait({task, dead}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise ConfigError(
                f"gateway: Envoy ended with status {dead.result()} before it served on {self._config.listen}; its log "
                "above says why (is the address taken?)"
            )
        finally:
            task.cancel()
            dead.cancel()

    async def _end(self) -> None:
        """Ends Envoy, politely first. Idempotent."""
        process = self._process
        if process is None or self._exit.done():
            return
        with contextlib.suppress(OSError, TimeoutError):
            await self._admin.quit()
        try:
            async with asyncio.timeout(5):
                await self.died()
        except TimeoutError:
            self._log.warning("envoy did not quit", pid=process.pid)
            process.kill()
            await self._exit
