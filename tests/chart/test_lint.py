"""What helm and the API server say of the chart."""

import pytest

from tests.chart import helm


def test_helm_lints_the_chart(value_set):
    said = helm.helm("lint", "--strict", helm.CHART, "--namespace", helm.NAMESPACE, *value_set)
    assert "0 chart(s) failed" in said


def test_there_are_value_sets():
    assert helm.VALUE_SETS


def test_the_api_server_accepts_every_object(cluster, renderings, value_set):
    text = renderings.text(*value_set, namespace="default")
    said = helm.kubectl("apply", "--dry-run=server", "--namespace", "default", "-f", "-", text=text)
    objects = helm.parse(text)
    assert said.count("(server dry run)") == len(objects)


def test_the_api_server_refuses_what_is_wrong(cluster, renderings):
    text = renderings.text(namespace="default").replace("targetPort: grpc", "tragetPort: grpc")
    with pytest.raises(helm.Refused, match="tragetPort"):
        helm.kubectl("apply", "--dry-run=server", "--validate=strict", "--namespace", "default", "-f", "-", text=text)
