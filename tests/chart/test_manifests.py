"""`k8s/`: what can be applied without Helm."""

import subprocess
import sys

import pytest
import yaml

from tests.chart import helm
from tests.chart import objects as o

K8S = helm.ROOT / "k8s"


@pytest.fixture(scope="module")
def rendered():
    return [item for path in sorted((K8S / "rendered").glob("*.yaml")) for item in helm.parse(path.read_text())]


def test_the_manifests_are_those_of_the_chart():
    command = [sys.executable, str(helm.ROOT / "scripts" / "gen_manifests.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_they_begin_with_the_namespace_and_stay_in_it(rendered):
    assert o.name(rendered[0]) == "Namespace/infermesh"
    assert {item["metadata"]["namespace"] for item in rendered[1:]} == {"infermesh"}
    assert not [o.name(item) for item in rendered if o.is_hook(item)]


def test_the_namespace_enforces_restricted_pod_security(rendered):
    assert o.labels(rendered[0])["pod-security.kubernetes.io/enforce"] == "restricted"


def test_the_kind_cluster_has_two_workers_and_a_port_for_the_gateway():
    cluster = yaml.safe_load((K8S / "kind.yaml").read_text())
    assert [node["role"] for node in cluster["nodes"]] == ["control-plane", "worker", "worker"]
    (port,) = cluster["nodes"][0]["extraPortMappings"]
    assert 30000 <= port["containerPort"] <= 32767
    assert port["listenAddress"] == "127.0.0.1"


def test_the_api_server_accepts_them(cluster, rendered):
    text = "---\n".join(path.read_text() for path in sorted((K8S / "rendered").glob("*.yaml")))
    text = text.replace("namespace: infermesh", "namespace: default")
    said = helm.kubectl("apply", "--dry-run=server", "-f", "-", text=text)
    assert said.count("(server dry run)") == len(rendered)
