"""`infermesh bench`."""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from infermesh.cli.bench_report import Files, show
from infermesh.cli.options import (
    DEFAULT_HOME,
    Address,
    Format,
    Home,
    Output,
    Timeout,
    connected,
    encrypted,
    find_address,
)
from infermesh.cli.tensor_args import random_inputs, read_inputs
from infermesh.errors import Unsupported
from infermesh.loadgen.arrivals import Arrivals

if TYPE_CHECKING:
    from infermesh.client import Client
    from infermesh.loadgen.plan import Plan

_PER_PROCESS: Final = 3_000  # calls a second that one event loop sends without being late
_DIFFERENT: Final = 16  # random requests that are sent in turn

Inputs = Annotated[
    list[str] | None, typer.Argument(help="As for `infermesh infer`; default: random ones that fit the signature.")
]
Shape = Annotated[
    Arrivals, typer.Option(help="bursty: gamma gaps, CV 4; closed: each caller waits for its answer, --rate is moot.")
]


def bench(
    deployment: Annotated[str, typer.Argument(help="Deployment id.")],
    inputs: Inputs = None,
    rate: Annotated[float, typer.Option("--rate", "-r", help="Calls per second.", min=0.001)] = 100.0,
    arrivals: Shape = Arrivals.poisson,
    duration: Annotated[float, typer.Option("--duration", "-d", help="Seconds.", min=0.1)] = 10.0,
    in_flight: Annotated[int, typer.Option(help="Most calls under way; closed: callers.", min=1)] = 1_000,
    connections: Annotated[int, typer.Option(help="Connections, used in turn.", min=1)] = 4,
    processes: Annotated[int, typer.Option(help="Processes that send; 0: as many as the rate needs.", min=0)] = 0,
    slo: Annotated[float, typer.Option(help="Milliseconds within which an answer is good.", min=0.0)] = 100.0,
    batch: Annotated[int, typer.Option(help="Rows of random inputs.", min=1)] = 1,
    seed: Annotated[int, typer.Option(help="Seed of arrivals and of random inputs.")] = 0,
    version: Annotated[str, typer.Option("--version", "-v", help="Version number or alias.")] = "",
    csv: Annotated[Path | None, typer.Option(help="Write a line for each second to this file.")] = None,
    json: Annotated[Path | None, typer.Option(help="Write all figures to this file.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw latencies into this .png, .svg or .pdf file.")] = None,
    timeout: Timeout = 30.0,
    address: Address = "",
    home: Home = DEFAULT_HOME,
    output: Output = Format.table,
) -> None:
    """Load a deployment and show latencies, each from the moment its call was due: an open loop.

    Exits with 1 if no call was answered. Works with every server of the Open Inference Protocol.
    """
    files = Files(csv, json, plot)
    files.check()
    from infermesh.loadgen.plan import Plan

    if encrypted(address):
        raise Unsupported("bench measures plaintext only: name a gateway's own port, without https:// and --tls")
    with connected(address, home, timeout) as client:
        messages = requests(client, deployment, inputs or [], version=version, batch=batch, seed=seed)
    plan = Plan(
        address=find_address(address, home), messages=messages, arrivals=arrivals, rate=rate, duration=duration,
        in_flight=in_flight, connections=connections, timeout=timeout, slo=slo / 1e3, seed=seed,
    )  # fmt: skip
    _measure(plan, processes or needed(plan.arrivals, rate), files, output)


def _measure(plan: "Plan", processes: int, files: Files, output: Format) -> None:
    from infermesh.loadgen.children import run
    from infermesh.loadgen.report import report

    recording = run(plan, processes)
    figures = report(plan, recording)
    show(figures, output)
    files.write(figures, recording)
    if not figures.answered:
        raise typer.Exit(1)


def requests(
    client: "Client", deployment: str, inputs: Sequence[str], *, version: str, batch: int, seed: int
) -> list[bytes]:
    """Returns the requests to send: the one of `inputs`, or several random ones that fit the signature."""
    from infermesh.client.inference import encode_request

    specs = client.metadata(deployment, version).inputs
    given = (
        [read_inputs(inputs, specs)] if inputs else [random_inputs(specs, batch, seed + n) for n in range(_DIFFERENT)]
    )
    return [encode_request(deployment, arrays, version=version).SerializeToString() for arrays in given]


def needed(arrivals: Arrivals, rate: float) -> int:
    """Returns how many processes send that many calls a second; of closed arrivals nobody knows the rate."""
    return 1 if arrivals is Arrivals.closed else min(os.cpu_count() or 1, math.ceil(rate / _PER_PROCESS))
