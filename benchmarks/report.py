"""A run's report, as Markdown for people and JSON for machines."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.rows import Absent, Row, table
from benchmarks.settings import Settings

_HOW = """CPU is that of all processes of a system's data path, the load generator's is not counted. Each figure is the
median of {pairs} interleaved pairs of {seconds:g} s ({peer_pairs} with each peer), as a multiple of an empty
`grpc.aio`+uvloop server that echoes the same bytes, measured in the same run on the same cores; the range of the pairs
is beside it. A row is noisy when that server's own cost moved by more than 20 %."""


def write(
    folder: Path, name: str, rows: Sequence[Row], absent: Sequence[Absent], facts: Mapping[str, str], settings: Settings
) -> Path:
    """Writes `name`.md and `name`.json into a folder, which is made; returns the former's path."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["# What `make bench` measured", "", *(f"- {key}: {value}" for key, value in facts.items())]
    text = "\n".join([*lines, "", _HOW.format(**asdict(settings)), "", table(rows, absent), ""])
    figures = {
        "facts": facts,
        "settings": asdict(settings),
        "rows": [{**_plain(row), "ok": row.ok} for row in rows],
        "absent": [asdict(item) for item in absent],
    }
    (folder / f"{name}.json").write_text(json.dumps(figures, indent=2, ensure_ascii=False) + "\n")
    markdown = folder / f"{name}.md"
    markdown.write_text(text)
    return markdown


def _plain(row: Row) -> dict[str, object]:
    """Returns a row's fields; JSON knows no NaN."""
    return {key: None if value != value else value for key, value in asdict(row).items()}
