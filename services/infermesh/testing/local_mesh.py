"""A whole mesh on this machine: registry, scheduler, workers and gateways, each a process of its own.

For tests (also of other projects), `infermesh up` and `infermesh demo`. All state lies under one folder:

    home/registry.db, home/artifacts/   what must survive; the registry's
    home/cache/{worker}/                fetched artifacts, and what was held last
    home/state/{gateway}/               the last known routes
    home/logs/{service}.log             what each service logged
    home/run/{service}.json             ready files: pid and addresses; run/mesh.json has those of all
    home/{room}.yaml                    settings of a room, if somebody put them there (also .toml, .json)
"""

import contextlib
import fcntl
import json
import os
import signal
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import TextIO

from infermesh.errors import FailedPrecondition
from infermesh.testing.child import Service, ServiceFailed, ServiceSpec
from infermesh.testing.ports import HeldPorts


class HomeInUse(FailedPrecondition):
    """Another mesh runs on this home."""

    reason = "HOME_IN_USE"


@dataclass(frozen=True)
class MeshOptions:
    """How a local mesh is made.

    `listen` and `grpc_listen` (for gRPC alone) are where the first gateway listens, the others take free ports; `flags`
    are extra command-line flags by room (`worker`) or by service (`worker-1`); `environment` is added to that of every
    service; `package` holds the rooms (a test of the mesh itself may bring stubs); times are in seconds.
    """

    gateways: int = 1
    workers: int = 2
    device: str = "auto"
    listen: str = "127.0.0.1:0"
    grpc_listen: str = "127.0.0.1:0"
    flags: Mapping[str, Sequence[str]] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    package: str = "infermesh"
    start_timeout: float = 90.0
    stop_timeout: float = 40.0  # above the time that services give calls under way


class LocalMesh:
    """Starts, watches and stops the processes of a mesh. Synchronous; not for use from several threads at once.

    Use it as a context manager, or call `start` and `stop`. Whatever way the caller ends, the services end with it.
    """

    def __init__(self, home: Path | str, options: MeshOptions | None = None) -> None:
        self.home = Path(home).absolute()
        self.options = options or MeshOptions()
        self.processes: dict[str, Service] = {}
        self._ports = HeldPorts()
        self._lock: TextIO | None = None

    def __enter__(self) -> "LocalMesh":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def gateway(self) -> str:
        """Address (host:port) of the first gateway: every protocol of the mesh."""
        return self.address("gateway")

    @property
    def grpc_port(self) -> str:
        """Address (host:port) of the first gateway's port for gRPC alone."""
        return self.address("gateway", "grpc_port")

    @property
    def gateways(self) -> list[str]:
        """Addresses of all gateways, in the order of their names: `gateway`, `gateway-2` and so on."""
        return self._gateways("grpc")

    @property
    def grpc_ports(self) -> list[str]:
        """Addresses of the ports for gRPC alone of all gateways, in the same order."""
        return self._gateways("grpc_port")

    def _gateways(self, kind: str) -> list[str]:
        return [service.addresses[kind] for service in self.processes.values() if service.spec.room == "gateway"]

    def address(self, name: str, kind: str = "grpc") -> str:
        """Returns an address of a service: `kind` is `grpc`, `health`, `metrics`, at a gateway `http` and
        `grpc_port`, at a worker `bundles`."""
        return self.processes[name].addresses[kind]

    def start(self) -> None:
        """Starts everything and returns when all listen. Raises HomeInUse, or ServiceFailed with the log's tail."""
        for _ in self.starting():
            pass

    def starting(self) -> Iterator[Sequence[str]]:
        """Starts stage by stage; after each stage yields the names of its services, which are ready now.

        For a caller that shows progress. On any error, also when it is closed early, what was started is stopped.
        """
        self._take_home()
        try:
            for stage in self._stages():
                services = [self._launch(spec) for spec in stage]
                self._await(services)
                yield [service.spec.name for service in services]
            self._publish()
        except BaseException:
            self.stop()
            raise

    def _stages(self) -> Iterator[Iterable[ServiceSpec]]:
        """Yields what may start together. A generator: each stage needs the addresses of the one before."""
        yield [self._spec("registry", "registry", "--home", str(self.home))]
        yield [self._spec("scheduler", "scheduler", "--registry", self.address("registry"))]
        upstream = ["--scheduler", self.address("scheduler"), "--registry", self.address("registry")]
        yield [
            *(self._worker_spec(f"worker-{number}", upstream) for number in range(1, self.options.workers + 1)),
            *(self._gateway_spec(number, upstream) for number in range(1, self.options.gateways + 1)),
        ]

    def _gateway_spec(self, number: int, upstream: Sequence[str]) -> ServiceSpec:
        name, listen, grpc_listen = "gateway", self.options.listen, self.options.grpc_listen
        if number > 1:
            name = f"gateway-{number}"
            listen, grpc_listen = (f"{address.rpartition(':')[0]}:0" for address in (listen, grpc_listen))
        own = ["--state", str(self.home / "state" / name), "--grpc-listen", grpc_listen]
        return replace(self._spec(name, "gateway", *upstream, *own), listen=listen)

    def _worker_spec(self, name: str, upstream: Sequence[str]) -> ServiceSpec:
        cache = ["--cache", str(self.home / "cache" / name)]
        return self._spec(name, "worker", *upstream, "--id", name, "--device", self.options.device, *cache)

    def _spec(self, name: str, room: str, *arguments: str) -> ServiceSpec:
        files = [path for suffix in ("yaml", "toml", "json") if (path := self.home / f"{room}.{suffix}").exists()]
        config = [word for path in files for word in ("--config", str(path))]
        extra = [word for key in dict.fromkeys((room, name)) for word in self.options.flags.get(key, ())]
        return ServiceSpec(
            name,
            room,
            [*config, *arguments, *extra],
            environment=self.options.environment,
            package=self.options.package,
        )

    def _launch(self, spec: ServiceSpec) -> Service:
        service = self.processes[spec.name] = Service(spec, self.home)
        service.start()
        return service

    def _await(self, services: Iterable[Service]) -> None:
        deadline = time.monotonic() + self.options.start_timeout
        for service in services:
            service.wait_ready(deadline)

    def wait_serving(self, *names: str) -> None:
        """Waits until services (default: all) say SERVING: what shall be loaded is, and where to send calls is known.

        Raises ServiceFailed if one has ended, or takes longer than `start_timeout`.
        """
        deadline = time.monotonic() + self.options.start_timeout
        for name in names or list(self.processes):
            self.processes[name].wait_serving(deadline)

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Sends a signal to one service (SIGKILL by default); returns when a killed one is gone."""
        service = self.processes[name]
        service.send(number)
        if number == signal.SIGKILL:
            service.wait(time.monotonic() + self.options.stop_timeout)
            self._ports.hold(service.addresses.values())

    def restart(self, name: str) -> None:
        """Stops a service, if it still runs, and starts it on the same addresses. Raises ServiceFailed if it can't."""
        self.stop(name)
        self.revive(name)
        self._await([self.processes[name]])

    def revive(self, name: str) -> None:
        """Starts a service that has ended on the same addresses; returns at once."""
        service = self.processes[name]
        self._ports.hold(service.addresses.values())
        service.start()

    def stop(self, *names: str) -> None:
        """Stops services by SIGTERM and waits for them; without names all of them, gateway first and registry last.

        One that has not ended within `stop_timeout` is killed with its children.
        """
        for stage in self._stop_order(names):
            for service in stage:
                service.send(signal.SIGTERM)
            deadline = time.monotonic() + self.options.stop_timeout
            for service in stage:
                service.wait(deadline)
                service.kill_group()
                if names:  # it may be started again
                    self._ports.hold(service.addresses.values())
        if not names:
            self._leave_home()

    def _stop_order(self, names: Sequence[str]) -> list[list[Service]]:
        chosen = [service for name, service in self.processes.items() if not names or name in names]
        rooms = ("gateway", "worker", "scheduler", "registry")
        return [[service for service in chosen if service.spec.room == room] for room in rooms]

    def abandon(self) -> None:
        """Kills what still runs, at once and without order."""
        for service in self.processes.values():
            service.kill_group()
        self._leave_home()

    def dead(self) -> list[str]:
        """Returns the names of the services that have ended."""
        return [name for name, service in self.processes.items() if not service.running]

    def _take_home(self) -> None:
        """Holds a lock on the home until `stop`, or the end of this process however it ends."""
        run = self.home / "run"
        run.mkdir(parents=True, exist_ok=True)
        lock = (run / "lock").open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.seek(0)
            owner = lock.read().strip() or "unknown"
            lock.close()
            raise HomeInUse(
                f"a mesh is already running on {self.home} (process {owner}): stop it, or choose another --home"
            ) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        self._lock = lock

    def _publish(self) -> None:
        """Writes the addresses where commands look for a running mesh."""
        addresses = {name: service.addresses.get("grpc", "") for name, service in self.processes.items()}
        text = json.dumps({"pid": os.getpid(), "gateway": self.gateway, "services": addresses}, indent=2)
        partial = self.home / "run" / "mesh.json.partial"
        partial.write_text(text + "\n")
        partial.replace(self.home / "run" / "mesh.json")  # a reader sees all of it or nothing

    def _leave_home(self) -> None:
        self._ports.release()
        if self._lock is None:
            return
        with contextlib.suppress(FileNotFoundError):
            (self.home / "run" / "mesh.json").unlink()
        self._lock.close()
        self._lock = None


__all__ = ["HomeInUse", "LocalMesh", "MeshOptions", "ServiceFailed"]
