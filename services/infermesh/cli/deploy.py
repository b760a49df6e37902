"""`infermesh deploy|undeploy`."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infermesh.cli.listings import DEPLOYMENTS
from infermesh.cli.options import DEFAULT_HOME, Address, Format, Home, Output, Timeout, connected
from infermesh.cli.output import print_json, show, to_json
from infermesh.cli.push import pairs

if TYPE_CHECKING:
    from infermesh.client.operations import Watcher
    from infermesh.v1 import deployment_pb2


Traffic = Annotated[
    list[str] | None, typer.Option("--traffic", "-t", help="Share of the calls as VERSION=WEIGHT; may be repeated.")
]
HedgeBudget = Annotated[
    float | None, typer.Option(help="Share of the calls that may be sent twice; 0 is off.", min=0, max=0.5)
]
HedgeDelay = Annotated[
    float | None, typer.Option(help="Seconds before a slow call is sent twice; default: as measured.", min=0)
]
SingleFlight = Annotated[
    bool | None, typer.Option("--single-flight/--no-single-flight", help="Run equal concurrent requests once.")
]


def deploy(
    deployment: Annotated[str, typer.Argument(help="Deployment id: what clients send as the model's name.")],
    model: Annotated[str, typer.Option("--model", "-m", help="Model id; default: the deployment's id.")] = "",
    version: Annotated[str, typer.Option("--version", "-v", help="Version number, alias or latest.")] = "",
    traffic: Traffic = None,
    replicas: Annotated[str | None, typer.Option(help="Workers that hold each version, or all of the pool.")] = None,
    pool: Annotated[str | None, typer.Option(help="Pool of the workers that may hold it; empty means every.")] = None,
    device: Annotated[str | None, typer.Option(help="any, cpu, cuda, mps or xpu.")] = None,
    policy: Annotated[str | None, typer.Option(help="round_robin, random, least_load or weighted.")] = None,
    max_batch_size: Annotated[int | None, typer.Option(help="Most rows of a batch.", min=0)] = None,
    max_delay: Annotated[float | None, typer.Option(help="Seconds to wait for a larger batch.", min=0)] = None,
    max_queue: Annotated[int | None, typer.Option(help="Most waiting calls in one gateway.", min=0)] = None,
    hedge_budget: HedgeBudget = None,
    hedge_delay: HedgeDelay = None,
    single_flight: SingleFlight = None,
    label: Annotated[list[str] | None, typer.Option(help="Label as key=value; replaces all labels.")] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until every version answers.")] = True,
    timeout: Timeout = 300.0,
    address: Address = "",
    home: Home = DEFAULT_HOME,
    output: Output = Format.table,
) -> None:
    """Create a deployment, or change what is given of one that exists, and wait until it answers."""
    wanted: dict[str, Any] = {
        "version": version,
        "traffic": _weights(traffic),
        "replicas": _replicas(replicas),
        "pool": pool,
        "device": device,
        "policy": policy,
        "batching": _batching(max_batch_size, max_delay, max_queue),
        "labels": pairs("label", label) if label else None,
        "hedging": _hedging(hedge_budget, hedge_delay),
        "single_flight": single_flight,
    }
    with connected(address, home) as client, _watching(output) as watch:
        result = client.deploy(deployment, model, **wanted, wait=wait, timeout=timeout, watch=watch)
    _show(result, output)


def undeploy(
    deployment: Annotated[str, typer.Argument(help="Deployment id.")],
    address: Address = "",
    home: Home = DEFAULT_HOME,
    output: Output = Format.table,
) -> None:
    """Delete a deployment; calls under way finish."""
    with connected(address, home) as client:
        client.undeploy(deployment)
    if output is Format.json:
        print_json({"deployment": deployment, "deleted": True})
    else:
        typer.echo(f"deleted deployment {deployment}")


def _show(deployment: "deployment_pb2.Deployment", output: Format) -> None:
    if output is Format.json:
        print_json(to_json(deployment))
    else:
        show([deployment], DEPLOYMENTS, output)


def _replicas(text: str | None) -> int | str | None:
    if text is None or text == "all":
        return text
    if not text.isdigit() or text == "0":
        raise typer.BadParameter(f"replicas: expected a number above 0 or all, got {text!r}")
    return int(text)


def _weights(traffic: list[str] | None) -> dict[str, int] | None:
    if not traffic:
        return None
    weights = {}
    for item in traffic:
        version, _, weight = item.partition("=")
        if not version or not weight.isdigit():
            raise typer.BadParameter(f"traffic: expected VERSION=WEIGHT, e.g. 2=10, got {item!r}")
        weights[version] = int(weight)
    return weights


def _batching(
    max_batch_size: int | None, max_delay: float | None, max_queue: int | None
) -> "deployment_pb2.Batching | None":
    if max_batch_size is None and max_delay is None and max_queue is None:
        return None
    from infermesh.client import batching

    return batching(max_batch_size=max_batch_size or 0, max_delay=max_delay or 0.0, max_queue=max_queue or 0)


def _hedging(budget: float | None, delay: float | None) -> "deployment_pb2.Hedging | None":
    if budget is None:
        if delay is not None:
            raise typer.BadParameter("hedge-delay: give --hedge-budget, too: without a budget nothing is sent twice")
        return None
    from infermesh.client import hedging

    return hedging(budget, delay=delay or 0.0)


@contextmanager
def _watching(output: Format) -> "Iterator[Watcher | None]":
    if output is Format.json or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console

    with Console(stderr=True).status("placing versions on workers…") as status:
        yield lambda metadata: status.update(_progress_text(metadata))


def _progress_text(metadata: Any) -> str:
    parts = [
        f"version {v.version}: {v.failure or f'{v.ready_replicas} ready, {v.loading_replicas} loading'}"
        for v in metadata.versions
    ]
    return "; ".join(parts) or "placing versions on workers…"
