"""One process of the mesh: logs, traces, health, /metrics, signals and the ready file. Every room opens one."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc.aio
import prometheus_client
import structlog
import uvloop
from opentelemetry.trace import Tracer

from infermesh.errors import ConfigError
from infermesh.mesh import health, log, metrics, server, tls
from infermesh.mesh.config import ProcessConfig
from infermesh.mesh.interceptors import ObserveInterceptor
from infermesh.mesh.telemetry import Telemetry


class Process:
    """What a room needs of its process; an async context manager.

    `health` begins as NOT_SERVING; `metrics` is this process' own registry; `tracer` records spans when an endpoint is
    configured; `certificates` are what this process shows the others, None where the mesh speaks plaintext. Entering
    raises ConfigError if an address can't be bound, making one if the certificates are not good.
    """

    def __init__(self, room: str, config: ProcessConfig) -> None:
        log.configure(room, config.log.level)
        self._room = room
        self._config = config
        self.certificates = tls.mutual(config.tls)
        self._log = structlog.get_logger("infermesh.process")
        self._stop = asyncio.Event()
        self._telemetry = Telemetry(room, config.telemetry)
        self._addresses: dict[str, str] = {}
        self._cleanup = contextlib.AsyncExitStack()
        self.health = health.Health()
        self.metrics = prometheus_client.CollectorRegistry()
        prometheus_client.ProcessCollector(registry=self.metrics)
        prometheus_client.PlatformCollector(registry=self.metrics)
        self._rpc_seconds = metrics.rpc_seconds(self.metrics)

    @property
    def tracer(self) -> Tracer:
        """The tracer of this process."""
        return self._telemetry.tracer

    def create_server(
        self, options: Sequence[tuple[str, Any]] = (), interceptors: Sequence[grpc.aio.ServerInterceptor] = ()
    ) -> grpc.aio.Server:
        """Returns a gRPC server whose calls are timed, traced and end with rich statuses; see `server.bind`."""
        observe = ObserveInterceptor(self._rpc_seconds, self.tracer)
        return server.create_server([observe, *interceptors], options)

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        self._cleanup.callback(self._telemetry.stop)
        try:
            self._addresses["health"] = await self._serve_health()
            self._addresses["metrics"] = self._serve_metrics()
        except BaseException:
            await self._cleanup.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.health.stop()
        self._remove_ready_file()
        await self._cleanup.aclose()
        self._log.info("stopped")

    async def _serve_health(self) -> str:
        # a server of its own: open Watch streams must not hold up the drain of the real one
        grpc_server = server.create_server()
        health.add_to_server(self.health, grpc_server)
        address = await server.bind(grpc_server, self._config.health_listen)
        self._cleanup.push_async_callback(grpc_server.stop, 0)
        return address

    def _serve_metrics(self) -> str:
        host, _, port = self._config.metrics_listen.rpartition(":")
        try:
            http, thread = prometheus_client.start_http_server(int(port), host, registry=self.metrics)
        except (OSError, ValueError) as error:
            raise ConfigError(f"metrics_listen: can't bind {self._config.metrics_listen}: {error}") from error

        def stop() -> None:
            http.shutdown()
            http.server_close()
            thread.join()

        self._cleanup.callback(stop)
        return f"{host}:{http.server_port}"

    async def ready(self, **addresses: str) -> None:
        """Says that the process serves: what `listening` and `serving` do."""
        self.listening(**addresses)
        self.serving()

    def listening(self, **addresses: str) -> None:
        """Says that the process can be reached: writes the ready file, with these and its own addresses."""
        self._addresses |= addresses
        self._log.info("ready", pid=os.getpid(), **self._addresses)
        self._write_ready_file()

    def serving(self) -> None:
        """Says that the process is worth being sent calls: health SERVING, unless it was told to stop meanwhile."""
        self.health.set("", True)

    def _write_ready_file(self) -> None:
        if not self._config.ready_file:
            return
        path = Path(self._config.ready_file)
        content = {"pid": os.getpid(), "room": self._room, "addresses": self._addresses}
        temporary = path.with_name(f"{path.name}.{os.getpid()}")
        temporary.write_text(json.dumps(content))
        temporary.replace(path)  # a reader sees all of it or nothing

    def _remove_ready_file(self) -> None:
        if self._config.ready_file:
            Path(self._config.ready_file).unlink(missing_ok=True)

    async def until_stopped(self) -> None:
        """Returns once the process was told to stop, said NOT_SERVING and sat out the lame-duck time."""
        await self._stop.wait()
        self._log.info("stopping", lame_duck=self._config.drain.lame_duck)
        self.health.stop()
        await asyncio.sleep(self._config.drain.lame_duck)

    async def until_told(self) -> None:
        """Returns as soon as the process was told to stop, before the lame-duck time."""
        await self._stop.wait()

    def stop(self) -> None:
        """Has the same effect as SIGTERM."""
        self._stop.set()


def run(main: Callable[[Sequence[str]], Awaitable[Any]], argv: Sequence[str] | None = None) -> int:
    """Runs a room's main and returns the exit status: 0 after a clean stop, 2 with one line for a bad setting."""

    async def start() -> None:
        await main(sys.argv[1:] if argv is None else argv)

    try:
        uvloop.run(start())
    except ConfigError as error:
        return _refuse(error)
    except BaseExceptionGroup as group:  # out of a task group
        cause = _only_config_error(group)
        if cause is None:
            raise
        return _refuse(cause)
    return 0


def _refuse(error: ConfigError) -> int:
    print(f"infermesh: {' '.join(error.message.split())}", file=sys.stderr)  # some causes have lines of their own
    return 2


def _only_config_error(group: BaseExceptionGroup[BaseException]) -> ConfigError | None:
    leaf: BaseException = group
    while isinstance(leaf, BaseExceptionGroup) and len(leaf.exceptions) == 1:
        leaf = leaf.exceptions[0]
    return leaf if isinstance(leaf, ConfigError) else None
