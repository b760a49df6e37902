"""The Grafana dashboards of the chart, taken apart for tests."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser as promql

FOLDER = Path(__file__).resolve().parents[1] / "charts" / "infermesh" / "dashboards"
FILES = sorted(FOLDER.glob("*.json"))
_VALUES = re.compile(r"label_values\((?P<selector>.+), (?P<label>\w+)\)")


def read(path: Path) -> dict[str, Any]:
    """Returns a dashboard."""
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def expressions(dashboard: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yields the title of each panel with each of its PromQL expressions, as Grafana would send it."""
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"].replace("$__rate_interval", "1m")


def variables(dashboard: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yields the selector and the label of each variable that asks for the values of a label."""
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            found = _VALUES.fullmatch(variable["query"]["query"])
            assert found, f"{variable['name']}: expected label_values(…), got {variable['query']}"
            yield found["selector"], found["label"]


def walk(expression: str) -> list[Any]:
    """Returns every node of an expression. Raises ValueError if it is no PromQL."""
    nodes: list[Any] = []
    promql.walk(promql.parse(expression), nodes.append)
    return nodes


def selectors(expression: str) -> list[promql.VectorSelector]:
    """Returns the selectors in an expression: name and matchers of a metric."""
    return [node for node in walk(expression) if isinstance(node, promql.VectorSelector)]


def grouped(expression: str) -> set[str]:
    """Returns the labels by which an expression aggregates or joins."""
    labels: set[str] = set()
    for node in walk(expression):
        if isinstance(node, promql.AggregateExpr) and node.modifier:
            labels |= set(node.modifier.labels)
        if isinstance(node, promql.BinaryExpr) and node.modifier and node.modifier.matching:
            labels |= set(node.modifier.matching.labels)
    return labels
