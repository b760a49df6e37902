"""`infermesh models|versions|deployments|workers`."""

from typing import Annotated, Any

import typer

from infermesh.cli.options import DEFAULT_HOME, Address, Format, Home, Output, connected
from infermesh.cli.output import Column, bytes_text, last, show, signature_text, when
from infermesh.v1 import deployment_pb2, worker_pb2

MODELS = (
    Column("MODEL", lambda m: last(m.name)),
    Column("LATEST", lambda m: str(m.latest_version or "-"), right=True),
    Column("CREATED", lambda m: when(m.create_time)),
    Column("DESCRIPTION", lambda m: m.description),
)
VERSIONS = (
    Column("VERSION", lambda v: last(v.name), right=True),
    Column("BACKEND", lambda v: v.backend),
    Column("INPUTS", lambda v: signature_text(v.signature.inputs)),
    Column("OUTPUTS", lambda v: signature_text(v.signature.outputs)),
    Column("BATCH", lambda v: str(v.max_batch_size or "-"), right=True),
    Column("SIZE", lambda v: bytes_text(sum(f.size_bytes for f in v.files)), right=True),
    Column("CREATED", lambda v: when(v.create_time)),
)


def state_of(deployment: Any) -> str:
    """Returns a deployment's state in a word, with its reason if it is not well."""
    state = deployment_pb2.Deployment.State.Name(deployment.state).removeprefix("STATE_")
    return f"{state}: {deployment.reason}" if deployment.reason else state


def traffic_of(deployment: Any) -> str:
    """Returns a deployment's traffic in percent: `1 90 %, 2 10 %`."""
    total = sum(target.weight for target in deployment.traffic) or 1
    return ", ".join(f"{target.version} {100 * target.weight / total:.3g} %" for target in deployment.traffic)


def ready_of(deployment: Any) -> str:
    """Returns how many workers hold each version ready: `1: 2/2`, or `1: 2/all` where every one shall."""
    wanted = "all" if deployment.all_workers else deployment.replicas or 1
    return ", ".join(f"{v.version}: {v.ready_replicas}/{wanted}" for v in deployment.versions) or "-"


def held_of(worker: Any) -> str:
    """Returns what a worker holds: `digits/2 READY`, with the number of requests that it refuses, if it does."""
    return ", ".join(map(_held, worker.held)) or "-"


def _held(held: Any) -> str:
    state = worker_pb2.HeldVersion.State.Name(held.state)
    quarantined = f" ({held.quarantined} quarantined)" if held.quarantined else ""
    return f"{held.deployment}/{held.version} {state}{quarantined}"


DEPLOYMENTS = (
    Column("DEPLOYMENT", lambda d: last(d.name)),
    Column("MODEL", lambda d: last(d.model)),
    Column("TRAFFIC", traffic_of),
    Column("READY", ready_of),
    Column("POOL", lambda d: d.pool or "any"),
    Column("POLICY", lambda d: d.policy or "round_robin"),
    Column("STATE", state_of),
)
WORKERS = (
    Column("WORKER", lambda w: last(w.name)),
    Column("POOL", lambda w: w.labels.get("pool", "-")),
    Column("ADDRESS", lambda w: w.address),
    Column("DEVICE", lambda w: f"{w.device.kind}:{w.device.index} {w.device.name}"),
    Column("FREE", lambda w: bytes_text(w.device.memory_free_bytes), right=True),
    Column("TOTAL", lambda w: bytes_text(w.device.memory_total_bytes), right=True),
    Column("HOLDS", held_of),
    Column("STATE", lambda w: "draining" if w.draining else "alive"),
)


def models(
    prefix: Annotated[str, typer.Argument(help="Only models whose id begins with this.")] = "",
    address: Address = "",
    home: Home = DEFAULT_HOME,
    output: Output = Format.table,
) -> None:
    """List models in the order of their ids."""
    with connected(address, home) as client:
        show(client.models(prefix=prefix), MODELS, output, empty="no models; see: infermesh push --help")


def versions(
    model: Annotated[str, typer.Argument(help="Model id.")],
    address: Address = "",
    home: Home = DEFAULT_HOME,
    output: Output = Format.table,
) -> None:
    """List the versions of a model, newest first."""
    with connected(address, home) as client:
        show(client.versions(model), VERSIONS, output, empty="no versions")


def deployments(
    model: Annotated[str, typer.Option(help="Only deployments of this model.")] = "",
    address: Address = "",
    home: Home = DEFAULT_HOME,
    output: Output = Format.table,
) -> None:
    """List deployments in the order of their ids."""
    with connected(address, home) as client:
        show(client.deployments(model=model), DEPLOYMENTS, output, empty="no deployments; see: infermesh deploy --help")


def workers(address: Address = "", home: Home = DEFAULT_HOME, output: Output = Format.table) -> None:
    """List the workers that are alive, their devices and what they hold."""
    with connected(address, home) as client:
        show(client.workers(), WORKERS, output, empty="no workers")
