"""`infermesh up`: a whole mesh on this machine, in the foreground, looked after until Ctrl-C."""

import json
import socket
import time
from dataclasses import dataclass, field
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Table

from infermesh.cli.options import DEFAULT_HOME, Format, Home, Output
from infermesh.testing import LocalMesh, MeshOptions
from infermesh.testing.child import ServiceFailed
from infermesh.testing.interrupts import stop_signals_interrupt

FAVOURITE: Final = "127.0.0.1:8080"
"""Where the gateway listens if nobody says otherwise and nobody else is there."""
FAVOURITE_GRPC: Final = "127.0.0.1:8081"
"""Where its port for gRPC alone is, likewise."""

_LOOK: Final = 0.2  # seconds between two looks at the services
_FIRST_PAUSE: Final = 0.5  # before a service that died is started again; doubled each time
_LONGEST_PAUSE: Final = 30.0
_SETTLED: Final = 60.0  # a service that lived this long has its pauses forgotten


@dataclass
class _Patience:
    """How long to wait before a service is started again."""

    pause: float = _FIRST_PAUSE
    started: float = field(default_factory=time.monotonic)
    due: float | None = None


class Supervisor:
    """Keeps a mesh running until it is interrupted."""

    def __init__(self, mesh: LocalMesh, console: Console, *, as_json: bool = False) -> None:
        self._mesh = mesh
        self._console = console
        self._as_json = as_json
        self._patience: dict[str, _Patience] = {}

    def run(self) -> None:
        """Starts the mesh, shows its addresses, restarts what dies; returns after Ctrl-C or SIGTERM, all stopped.

        Raises HomeInUse or ServiceFailed if the mesh can't start.
        """
        with stop_signals_interrupt():
            try:
                self._start()
                while True:
                    time.sleep(_LOOK)
                    self.look()
            except KeyboardInterrupt:
                self._console.print("stopping: calls under way finish (again Ctrl-C: at once)")
            finally:
                self._stop()

    def _start(self) -> None:
        with self._console.status("starting the mesh"):
            self._mesh.start()
        self._console.print_json(json.dumps(self.addresses())) if self._as_json else self._console.print(self._table())

    def addresses(self) -> dict[str, object]:
        """Returns where the mesh listens."""
        services = {name: service.addresses for name, service in self._mesh.processes.items()}
        gateway = {"gateway": self._mesh.gateway, "grpc_port": self._mesh.grpc_port}
        return {**gateway, "home": str(self._mesh.home), "services": services}

    def _table(self) -> Table:
        table = Table(
            "service", "address", "metrics", "pid", title=f"infermesh up · {self._mesh.home}", title_justify="left"
        )
        for name, service in self._mesh.processes.items():
            metrics = service.addresses.get("metrics", "")
            table.add_row(name, service.addresses["grpc"], metrics and f"http://{metrics}/metrics", str(service.pid))
        fast = f"gRPC alone, and faster: {self._mesh.grpc_port}"
        table.caption = f"every protocol: {self._mesh.gateway} (gRPC and HTTP) · {fast} · Ctrl-C stops it"
        return table

    def look(self) -> None:
        """Looks at every service once: notes deaths, and starts again what is due."""
        now = time.monotonic()
        for name in self._mesh.dead():
            patience = self._patience.setdefault(name, _Patience())
            if patience.due is None:
                self._note_death(name, patience, now)
            elif now >= patience.due:
                self._mesh.revive(name)
                patience.due, patience.started = None, now
                self._console.print(f"{name} started again")

    def _note_death(self, name: str, patience: _Patience, now: float) -> None:
        if now - patience.started > _SETTLED:
            patience.pause = _FIRST_PAUSE
        patience.due = now + patience.pause
        service = self._mesh.processes[name]
        self._console.print(f"[yellow]{name} ended with {service.returncode}[/], see {service.log}")
        self._console.print(f"starting {name} again in {patience.pause:g} s")
        patience.pause = min(_LONGEST_PAUSE, patience.pause * 2)

    def _stop(self) -> None:
        try:
            self._mesh.stop()
        except KeyboardInterrupt:
            self._mesh.abandon()


def free_or_any(listen: str) -> str:
    """Returns `listen` if it can be bound now, else the same host with port 0."""
    host, _, port = listen.rpartition(":")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
        except OSError:
            return f"{host}:0"
    return listen


def up(
    home: Home = DEFAULT_HOME,
    workers: Annotated[int, typer.Option(min=1, help="Number of workers.")] = 2,
    gateways: Annotated[int, typer.Option(min=1, help="Number of gateways; --listen is the first one's.")] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N, mps or xpu.")] = "auto",
    listen: Annotated[str, typer.Option(help=f"host:port of the gateway; default {FAVOURITE}, or a free port.")] = "",
    grpc_listen: Annotated[
        str, typer.Option(help=f"host:port of its port for gRPC alone; default {FAVOURITE_GRPC}, or a free port.")
    ] = "",
    allow_python: Annotated[bool, typer.Option("--allow-python", help="Let versions bring Python code.")] = False,
    output: Output = Format.table,
) -> None:
    """Keep a mesh running on this machine until Ctrl-C; the same home continues with what was there."""
    options = MeshOptions(
        gateways=gateways,
        workers=workers,
        device=device,
        listen=listen or free_or_any(FAVOURITE),
        grpc_listen=grpc_listen or free_or_any(FAVOURITE_GRPC),
        flags={"worker": ["--allow-python"]} if allow_python else {},
    )
    supervisor = Supervisor(LocalMesh(home, options), Console(), as_json=output is Format.json)
    try:
        supervisor.run()
    except ServiceFailed as error:
        typer.echo(error.log_tail, err=True)
        raise
