"""`infermesh stats`."""

from typing import Annotated, Any

import typer

from infermesh.cli.options import DEFAULT_HOME, Address, Format, Home, Output, connected
from infermesh.cli.output import Column, show


def _mean_ms(duration: Any) -> str:
    return f"{duration.ns / duration.count / 1e6:.2f}" if duration.count else "-"


def _rows_per_batch(row: Any) -> str:
    return f"{row.inference_count / row.execution_count:.1f}" if row.execution_count else "-"


STATISTICS = (
    Column("DEPLOYMENT", lambda s: s.name),
    Column("VERSION", lambda s: s.version, right=True),
    Column("OK", lambda s: str(s.inference_stats.success.count), right=True),
    Column("FAILED", lambda s: str(s.inference_stats.fail.count), right=True),
    Column("ROWS", lambda s: str(s.inference_count), right=True),
    Column("BATCHES", lambda s: str(s.execution_count), right=True),
    Column("ROWS/BATCH", _rows_per_batch, right=True),
    Column("TOTAL MS", lambda s: _mean_ms(s.inference_stats.success), right=True),
    Column("QUEUE MS", lambda s: _mean_ms(s.inference_stats.queue), right=True),
    Column("COMPUTE MS", lambda s: _mean_ms(s.inference_stats.compute_infer), right=True),
)


def stats(
    deployment: Annotated[str, typer.Argument(help="Deployment id; default: all.")] = "",
    version: Annotated[str, typer.Option("--version", "-v", help="Version number.")] = "",
    address: Address = "",
    home: Home = DEFAULT_HOME,
    output: Output = Format.table,
) -> None:
    """Show counts and mean times of the calls since the gateway started."""
    with connected(address, home) as client:
        show(client.statistics(deployment, version), STATISTICS, output, empty="no calls yet")
