"""`infermesh simulate`: a mesh in virtual time."""

from collections.abc import Iterable
from dataclasses import asdict
from math import inf
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from infermesh.cli.options import Format, Output
from infermesh.cli.output import print_json, print_table
from infermesh.errors import InvalidInput
from infermesh.gateway.balancing import policies
from infermesh.simulation import Model, Noise, Report, Request, Scenario, Shape
from infermesh.simulation import simulate as run
from infermesh.simulation.arrivals import requests, zipf
from infermesh.simulation.curves import parse
from infermesh.simulation.trace import read

Trace = Annotated[
    Path | None, typer.Option(help="CSV with columns seconds, model, rows, deadline_ms, priority; default: made up.")
]
Load = Annotated[float, typer.Option(min=0.01, help="Rate of arrivals as a share of what the workers can do.")]
Stalls = Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of executions that take ten times as long.")]


def simulate(
    trace: Trace = None,
    workers: Annotated[int, typer.Option(min=1, max=1000, help="Workers, each with one core and every model.")] = 1,
    policy: Annotated[str, typer.Option(help="Balancing policy.")] = "least_load",
    load: Load = 0.8,
    arrivals: Annotated[Shape, typer.Option(help="Shape of the arrivals.")] = Shape.poisson,
    seconds: Annotated[float, typer.Option(min=0.1, help="Length of the trace that is made up.")] = 10.0,
    models: Annotated[int, typer.Option(min=1, help="Models, with popularities by Zipf's law.")] = 1,
    deadline: Annotated[float, typer.Option(min=0.0, help="Milliseconds until a request's deadline; 0: none.")] = 100.0,
    curve: Annotated[str, typer.Option(help="Batch times: ranker, picture, encoder, or rows:seconds,…")] = "picture",
    max_batch: Annotated[int, typer.Option(min=1, help="Most rows of a batch.")] = 16,
    slow: Annotated[float, typer.Option(min=0.01, help="How many times as long the last worker takes.")] = 1.0,
    noise: Annotated[float, typer.Option(min=0.0, help="Deviation of execution times, as a share.")] = 0.03,
    stalls: Stalls = 1e-4,
    seed: Annotated[int, typer.Option(help="Same seed, same digest.")] = 0,
    output: Output = Format.table,
) -> None:
    """Run requests through a mesh in virtual time, and show goodput, late work, utilisation and percentiles."""
    if policy not in policies().names():
        raise InvalidInput(f"policy '{policy}': expected {', '.join(policies().names())}")
    slo = deadline / 1e3 if deadline else inf
    model = Model(parse(curve), max_batch)
    if trace is not None:
        played: Iterable[Request] = read(trace, slo)
        names = sorted({request.model for request in played})
    else:
        names = [f"model-{number}" for number in range(1, models + 1)]
        power = model.curve.throughput(max_batch) * (workers - 1 + 1 / slow)
        played = requests(arrivals, load * power, seconds, names, zipf(models, 1.0), slo, seed)
    scenario = Scenario(
        {name: model for name in names},
        workers=workers,
        policy=policy,
        seed=seed,
        noise=Noise(noise, stalls),
        slow={workers - 1: slow},
    )
    _show(run(scenario, played), output)


def _show(report: Report, output: Format) -> None:
    if output is Format.json:
        print_json({**asdict(report), "goodput": report.goodput, "kept": report.kept})
        return
    grid = Table.grid(padding=(0, 2))
    for title, value in _lines(report):
        grid.add_row(Text(title, "bold"), Text(value))
    print_table(grid)


def _lines(report: Report) -> list[tuple[str, str]]:
    ends = ("good", "late", "refused", "expired", "failed")
    return [
        ("requests", f"{report.requests} in {report.seconds:.3f} s"),
        *((name, str(getattr(report, name))) for name in ends),
        ("goodput", f"{report.goodput:.1f}/s"),
        ("kept", f"{report.kept:.4%} of the admitted in time"),
        ("late work", f"{report.wasted * 1e3:.1f} ms on {report.hopeless} requests too late at dispatch"),
        ("batches", f"{report.batches}, {report.executed / max(1, report.batches):.1f} rows each"),
        ("utilisation", " ".join(f"{share:.1%}" for share in report.utilisation)),
        ("latency", _milliseconds(report.latency)),
        ("refused after", _milliseconds(report.refusal_age)),
        ("digest", report.digest),
    ]


def _milliseconds(values: dict[str, float]) -> str:
    return "  ".join(f"{name} {seconds * 1e3:.2f} ms" for name, seconds in values.items()) or "-"
