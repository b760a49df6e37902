"""Every figure about speed that has a goal, measured in one run.

Usage: python -m benchmarks [--quick] [--only NAMES] [--pairs N] [--results FOLDER]

Starts each system itself on free ports and interleaves it with an empty `grpc.aio` echo server, or with the peer that
it is compared to. Ends with a line for each row, `NAME VALUE GOAL ok|short`, and with exit code 1 if one is short.
--quick repeats less, and leaves out peers that are not installed yet or take long to start. --only limits it to
sections: mlp, front, peers, tensor, encoder, tokens.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from benchmarks import machine, models, overhead, report, share, side_by_side, token_rows
from benchmarks.rows import Absent, Row
from benchmarks.servers import System, echo, mesh
from benchmarks.settings import FULL, QUICK, Settings

RESULTS: Final = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Bench:
    """The sections of a run: each starts what it needs, and stops it at its end."""

    folder: Path
    echo: System
    settings: Settings

    def sections(self) -> Mapping[str, Callable[[], Iterator[Row | Absent]]]:
        """Returns the sections by name, in the order in which they run."""
        return {
            "mlp": self.mlp,
            "front": self.front,
            "peers": self.peers,
            "tensor": self.tensor,
            "encoder": self.encoder,
            "tokens": lambda: token_rows.rows(self.folder, self.settings),
        }

    def mlp(self) -> Iterator[Row | Absent]:
        """Small calls beside the echo."""
        with mesh(self.folder / "mlp", models.mlp()) as other:
            yield from overhead.mlp(self.folder, self.echo, other, self.settings)

    def front(self) -> Iterator[Row | Absent]:
        """Small calls through the port of all protocols beside the echo."""
        with mesh(self.folder / "front", models.mlp()) as other:
            yield from overhead.front(self.folder, self.echo, other.through_front(), self.settings)

    def peers(self) -> Iterator[Row | Absent]:
        """Small calls beside other servers of the same model."""
        with mesh(self.folder / "peers", models.mlp()) as other:
            yield from side_by_side.rows(self.folder, other, self.settings)

    def tensor(self) -> Iterator[Row | Absent]:
        """Large calls beside the echo."""
        with mesh(self.folder / "tensor", models.tensor()) as other:
            yield from overhead.tensor(self.folder, self.echo, other, self.settings)

    def encoder(self) -> Iterator[Row | Absent]:
        """A model that takes its time, beside itself."""
        with mesh(self.folder / "encoder", models.encoder()) as other:
            yield from share.encoder(self.folder / "encoder", other, self.settings)


def measure(settings: Settings) -> Iterator[Row | Absent]:
    """Yields the rows as they are known."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="infermesh-bench-")))
        sections = Bench(folder, stack.enter_context(echo()), settings).sections()
        wanted = [name for name in settings.only.split(",") if name]
        for name in wanted or sections:
            (folder / name).mkdir(exist_ok=True)
            yield from sections[name]()


def main() -> int:
    """Measures, writes the report and prints the summary; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default="", metavar="NAMES")
    parser.add_argument("--pairs", type=int, default=0)
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER")
    options = parser.parse_args()
    settings = replace(QUICK if options.quick else FULL, only=options.only)
    if options.pairs:
        settings = replace(settings, pairs=options.pairs, peer_pairs=options.pairs)
    facts = machine.facts()
    rows: list[Row] = []
    absent: list[Absent] = []
    for found in measure(settings):
        detail = f"  ({found.spread}; {found.note})" if isinstance(found, Row) else ""
        print(f"{found}{detail}", flush=True)
        if isinstance(found, Row):
            rows.append(found)
        else:
            absent.append(found)
    written = report.write(options.results, "quick" if options.quick else "bench", rows, absent, facts, settings)
    print(f"\n{written}", *absent, *rows, sep="\n")
    return 0 if all(row.ok for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
