"""Writes what is generated in `charts/infermesh`: `values.schema.json`, and the table of values in its README.

With `--check` it writes nothing, and fails if the committed files are others.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import chart_schema
import yaml

CHART: Final = Path(__file__).resolve().parent.parent / "charts" / "infermesh"
BEGIN: Final = "<!-- values: written by `make chart` -->"
END: Final = "<!-- end of values -->"
_REFERENCE: Final = "gateway."  # explains the keys that all services have
_LIKE_IT: Final = ("registry.", "scheduler.", "worker.")


@dataclass(frozen=True)
class Row:
    """One key of the values: where it is, what it is unless set, and what the comment above it says."""

    key: str
    default: str
    text: str


def rows(source: str) -> Iterator[Row]:
    """Yields the keys of a values file, in order; those without a comment of their own, too."""
    root = yaml.compose(source)
    if not isinstance(root, yaml.MappingNode):
        raise SystemExit("values.yaml: expected keys with values")
    yield from _walk(root, "", source.splitlines())


def _walk(node: yaml.MappingNode, prefix: str, lines: list[str]) -> Iterator[Row]:
    for name, value in node.value:
        key, text = f"{prefix}{name.value}", _comment(lines, name.start_mark.line, name.start_mark.column)
        if isinstance(value, yaml.MappingNode) and value.value:
            if text:
                yield Row(key, "", text)
            yield from _walk(value, f"{key}.", lines)
        else:
            yield Row(key, json.dumps(yaml.safe_load(yaml.serialize(value))), text)


def _comment(lines: list[str], line: int, column: int) -> str:
    """Returns the comment that ends just above a key and stands in the same column."""
    found: list[str] = []
    start = " " * column + "#"
    while line > 0 and lines[line - 1].startswith(start):
        line -= 1
        found.insert(0, lines[line][len(start) :].strip())
    return " ".join(found)


def table(source: str) -> str:
    """Returns the values as a Markdown table, without those that are explained and set as the gateway's."""
    listed = list(rows(source))
    known = {row.key.removeprefix(_REFERENCE): row for row in listed if row.key.startswith(_REFERENCE)}
    lines = ["| key | default | |", "|---|---|---|"]
    for row in listed:
        if not row.text and row.key.startswith(_LIKE_IT):
            reference = known.get(row.key.partition(".")[2])
            if reference is not None and reference.default == row.default:
                continue
        default = f"`{row.default}`" if row.default else ""
        lines.append(f"| `{row.key}` | {default} | {row.text} |".replace("  ", " "))
    return "\n".join(lines)


def describe(schema: dict[str, Any], listed: list[Row]) -> dict[str, Any]:
    """Returns the schema with the comments of the values as descriptions, where it has none."""
    described: dict[str, Any] = json.loads(json.dumps(schema))  # its parts are shared; these are not
    for row in listed:
        node: Any = described
        for part in row.key.split("."):
            node = node.get("properties", {}).get(part, {})
        if node and row.text:
            node.setdefault("description", row.text)
    return described


def generated() -> dict[Path, str]:
    """Returns what the generated files shall contain."""
    source = (CHART / "values.yaml").read_text()
    schema = json.dumps(describe(chart_schema.values(), list(rows(source))), indent=2, ensure_ascii=False) + "\n"
    readme = (CHART / "README.md").read_text()
    head, begin, rest = readme.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"README.md of the chart: expected the lines {BEGIN} and {END}")
    listing = table(source)
    return {
        CHART / "values.schema.json": schema,
        CHART / "README.md": f"{head}{BEGIN}\n{listing}\n{END}{tail}",
    }


def main(arguments: list[str]) -> int:
    """Writes or checks; returns the exit status."""
    files = generated()
    stale = [path for path, content in files.items() if not path.exists() or path.read_text() != content]
    if "--check" not in arguments:
        for path in stale:
            path.write_text(files[path])
        return 0
    for path in stale:
        print(f"{path.relative_to(CHART.parent.parent)} is out of date: run `make chart` and commit", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
