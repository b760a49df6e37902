"""`infermesh status`."""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, Group, RenderableType
from rich.text import Text

from infermesh.cli.listings import DEPLOYMENTS, WORKERS
from infermesh.cli.options import DEFAULT_HOME, Address, Format, Home, Output, connected
from infermesh.cli.output import Column, print_json, table, to_json
from infermesh.cli.stats import STATISTICS
from infermesh.errors import MeshError, NotReady

if TYPE_CHECKING:
    from infermesh.client import Client


@dataclass(frozen=True)
class Picture:
    """What a mesh looked like at one moment."""

    address: str
    ready: bool
    workers: list[Any]
    deployments: list[Any]
    statistics: list[Any]
    moment: float
    trouble: str = ""


def status(
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Keep looking until Ctrl-C.")] = False,
    interval: Annotated[float, typer.Option(help="Seconds between two looks.", min=0.1)] = 1.0,
    address: Address = "",
    home: Home = DEFAULT_HOME,
    output: Output = Format.table,
) -> None:
    """Show workers, versions, traffic and load. Exits with 1 if the mesh does not answer."""
    with connected(address, home, timeout=5.0, patient=False) as client:
        if watch:
            _watch(client, interval, output)
            return
        picture = look(client)
    if output is Format.json:
        print_json(as_json(picture))
    else:
        Console().print(draw(picture, None))
    if not picture.ready:
        raise typer.Exit(1)


def look(client: "Client") -> Picture:
    """Returns how the mesh looks now; a part that does not answer is empty, and `trouble` says so."""
    parts: list[list[Any]] = []
    troubles = []
    for name, ask in (
        ("workers", client.workers),
        ("deployments", client.deployments),
        ("statistics", client.statistics),
    ):
        try:
            parts.append(list(ask()))
        except MeshError as error:
            parts.append([])
            troubles.append(f"{name}: {error.message}")
    try:
        ready = client.ready()
    except NotReady:
        ready = False
    return Picture(client.address, ready, parts[0], parts[1], parts[2], time.monotonic(), "; ".join(troubles))


def as_json(picture: Picture) -> dict[str, Any]:
    """Returns a picture for machines."""
    return {
        "gateway": picture.address,
        "ready": picture.ready,
        "trouble": picture.trouble or None,
        "workers": [to_json(worker) for worker in picture.workers],
        "deployments": [to_json(deployment) for deployment in picture.deployments],
        "statistics": [to_json(row) for row in picture.statistics],
    }


def draw(picture: Picture, before: Picture | None) -> RenderableType:
    """Returns a picture for people; with the picture `before` the load is in calls per second."""
    parts: list[RenderableType] = [
        f"gateway {picture.address} {'[green]ready[/]' if picture.ready else '[red]not ready[/]'}",
        "",
        table(picture.workers, WORKERS),
        "",
        table(picture.deployments, DEPLOYMENTS),
    ]
    if picture.statistics:
        rate = Column("CALLS/S", lambda row: f"{_rate(row, picture, before):.0f}", right=True)
        parts += ["", table(picture.statistics, (*STATISTICS, rate) if before else STATISTICS)]
    if picture.trouble:
        parts += ["", Text(picture.trouble, "red")]
    return Group(*parts)


def _rate(row: Any, picture: Picture, before: Picture | None) -> float:
    if before is None or picture.moment <= before.moment:
        return 0.0
    old = [r for r in before.statistics if (r.name, r.version) == (row.name, row.version)]
    calls: int = row.inference_stats.success.count - (old[0].inference_stats.success.count if old else 0)
    return max(0.0, calls / (picture.moment - before.moment))


def _watch(client: "Client", interval: float, output: Format) -> None:
    from rich.live import Live

    before = look(client)
    if output is Format.json:
        while True:
            print_json(as_json(look(client)))
            time.sleep(interval)
    with Live(draw(before, None), screen=False, auto_refresh=False) as live:
        while True:
            time.sleep(interval)
            picture = look(client)
            live.update(draw(picture, before), refresh=True)
            before = picture
