"""What `infermesh bench` prints and writes."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.table import Table
from rich.text import Text

from infermesh.cli.options import Format
from infermesh.cli.output import print_json, print_table

if TYPE_CHECKING:
    from infermesh.loadgen.recording import Recording
    from infermesh.loadgen.report import Report


@dataclass(frozen=True)
class Files:
    """Where the figures go, beside the terminal."""

    csv: Path | None
    json: Path | None
    plot: Path | None

    def check(self) -> None:
        """Fails before the load runs rather than after it. Raises a usage error, or MissingExtra."""
        for path in (self.csv, self.json, self.plot):
            if path is not None and not path.absolute().parent.is_dir():
                raise typer.BadParameter(f"{path}: there is no folder {path.absolute().parent}")
        if self.plot is None:
            return
        from infermesh.loadgen.extras import library

        library("matplotlib.figure")
        if self.plot.suffix not in (".png", ".svg", ".pdf"):
            raise typer.BadParameter(f"{self.plot}: expected a file that ends in .png, .svg or .pdf")

    def write(self, figures: "Report", recording: "Recording") -> None:
        """Writes the files that are wanted."""
        from infermesh.loadgen.report import to_csv

        if self.csv is not None:
            self.csv.write_text(to_csv(recording))
        if self.json is not None:
            self.json.write_text(json.dumps(figures.to_dict(), indent=2) + "\n")
        if self.plot is not None:
            from infermesh.loadgen.plot import draw

            draw(figures, recording, self.plot)


def show(figures: "Report", output: Format) -> None:
    """Prints the figures."""
    if output is Format.json:
        print_json(figures.to_dict())
        return
    grid = Table.grid(padding=(0, 2))
    for title, value in _rows(figures).items():
        grid.add_row(Text(title, "bold"), Text(value))
    print_table(grid)


def _rows(figures: "Report") -> dict[str, str]:
    delay = figures.delay_ms
    rows = {
        "calls": f"{figures.calls} in {figures.seconds:.1f} s, {figures.arrivals} arrivals",
        "offered": f"{figures.offered:.1f}/s",
        "answered": f"{figures.answered:.1f}/s",
        "goodput": f"{figures.goodput:.1f}/s within {figures.slo_ms:g} ms, {100 * figures.good_share:.2f} % of calls",
        "latency": ", ".join(f"{name} {value:.2f}" for name, value in figures.latency_ms.items()) + " ms",
        "failed": ", ".join(f"{count} {end}" for end, count in figures.failed.items()) or "0",
    }
    if figures.arrivals != "closed":
        rows["sent late by"] = f"p50 {delay['p50']:.2f}, p99 {delay['p99']:.2f}, max {delay['max']:.2f} ms"
    return {**rows, "load itself": f"{figures.client_cores:.2f} cores"}
