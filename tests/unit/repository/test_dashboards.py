"""The Grafana dashboards: valid, bound to no installation, and only about metrics that the services have."""

import inspect
import re
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import prometheus_client
import pytest

from infermesh.mesh import metrics
from tests import dashboards

BY_PROMETHEUS = {"namespace", "pod", "instance", "job", "service"}
"""Labels that the scraper adds."""


def _families() -> Iterator[Any]:
    """Yields every metric that mesh/metrics.py names."""
    for make in vars(metrics).values():
        if getattr(make, "__module__", "") != metrics.__name__:
            continue
        made = make(*[prometheus_client.CollectorRegistry()] * len(inspect.signature(make).parameters))
        yield from (part for part in [made, *getattr(made, "__dict__", {}).values()] if hasattr(part, "_labelnames"))
    process = prometheus_client.CollectorRegistry()
    prometheus_client.ProcessCollector(registry=process)
    yield from process.collect()


def _samples() -> dict[str, set[str]]:
    """Returns the labels of every sample that a scrape can have, by its name."""
    known: dict[str, set[str]] = {}
    for family in _families():
        name = getattr(family, "name", None) or family._name
        labels = set(family._labelnames)
        kind = getattr(family, "type", None) or family._type
        if kind == "counter":
            known[f"{name}_total"] = labels
        elif kind == "histogram":
            known |= {f"{name}_bucket": labels | {"le"}, f"{name}_sum": labels, f"{name}_count": labels}
        else:
            known[name] = labels
    return known


SAMPLES = _samples()


@pytest.fixture(params=dashboards.FILES, ids=lambda path: path.stem)
def dashboard(request: pytest.FixtureRequest) -> Any:
    return dashboards.read(request.param)


def test_there_are_dashboards() -> None:
    assert [path.stem for path in dashboards.FILES] == ["overview", "scheduler", "workers"]
    titles = [dashboards.read(path)["title"] for path in dashboards.FILES]
    assert len(set(titles)) == len(titles)


def test_every_metric_and_label_of_a_panel_exists(dashboard: Any) -> None:
    for title, expression in dashboards.expressions(dashboard):
        names = [selector.name for selector in dashboards.selectors(expression)]
        assert names, f"{title}: {expression}"
        for selector in dashboards.selectors(expression):
            assert selector.name in SAMPLES, f"{title}: no service has {selector.name}"
            matched = {matcher.name for matcher in selector.matchers.matchers}
            unknown = matched - SAMPLES[selector.name] - BY_PROMETHEUS
            assert not unknown, f"{title}: {selector.name} has no label {unknown}"
        labels = set().union(*(SAMPLES[name] for name in names)) | BY_PROMETHEUS
        unknown = dashboards.grouped(expression) - labels
        assert not unknown, f"{title}: {expression}: no label {unknown}"


def test_every_metric_is_in_a_panel() -> None:
    expressions = [text for path in dashboards.FILES for _, text in dashboards.expressions(dashboards.read(path))]
    shown = {_metric(selector.name) for text in expressions for selector in dashboards.selectors(text)}
    assert {_metric(name) for name in SAMPLES if name.startswith("infermesh_")} - shown == set()


def _metric(sample: str) -> str:
    return re.sub("_(bucket|sum|count)$", "", sample)


def test_every_variable_asks_for_labels_that_exist(dashboard: Any) -> None:
    for expression, label in dashboards.variables(dashboard):
        (selector,) = dashboards.selectors(expression)
        assert label in SAMPLES[selector.name] | BY_PROMETHEUS


def test_legends_name_labels_that_the_expression_keeps(dashboard: Any) -> None:
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            named = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            expression = target["expr"].replace("$__rate_interval", "1m")
            kept = dashboards.grouped(expression)
            if not any(hasattr(node, "modifier") for node in dashboards.walk(expression)):
                kept |= BY_PROMETHEUS
            assert named <= kept, f"{panel['title']}: {target['legendFormat']}"


def test_every_variable_that_is_used_is_declared(dashboard: Any) -> None:
    declared = {variable["name"] for variable in dashboard["templating"]["list"]}
    text = str([dashboard["panels"], [v.get("query") for v in dashboard["templating"]["list"]]])
    used = set(re.findall(r"\$\{?(\w+)", text)) - {"__rate_interval"}
    assert used == declared


def test_a_dashboard_is_bound_to_no_installation(dashboard: Any) -> None:
    assert not {"id", "uid"} & set(dashboard)
    sources = [node["datasource"] for node in _nodes(dashboard) if "datasource" in node]
    assert sources
    assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in sources)
    assert dashboard["templating"]["list"][0]["type"] == "datasource"
    assert dashboard["schemaVersion"] >= 39
    assert "infermesh" in dashboard["tags"]


def test_panels_say_what_they_show_and_do_not_overlap(dashboard: Any) -> None:
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        if panel["type"] != "row":
            assert panel["title"], panel
            assert panel["description"].endswith("."), panel["title"]
            defaults = panel["fieldConfig"]["defaults"]
            assert defaults.get("unit") or panel["options"]["yAxis"]["unit"], panel["title"]
    for one, other in combinations([panel["gridPos"] for panel in panels], 2):
        apart = any(one[a] + one[b] <= other[a] or other[a] + other[b] <= one[a] for a, b in (("x", "w"), ("y", "h")))
        assert apart, (one, other)


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _nodes(item)


def test_a_dashboard_fits_a_config_map() -> None:
    for path in dashboards.FILES:
        assert path.stat().st_size < 1 << 19
