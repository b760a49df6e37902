"""`k8s/`: what can be applied without Helm."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.chart import helm, restricted
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


JOBS = sorted((K8S / "examples").rglob("*.yaml"))


@pytest.mark.parametrize("path", [path for path in JOBS if "kind: Job" in path.read_text()], ids=lambda path: path.stem)
def test_jobs_satisfy_restricted_pod_security_and_call_services_that_exist(rendered, path):
    services = {
        f"{service['metadata']['name']}:{port['port']}"
        for service in o.of(rendered, "Service")
        for port in service["spec"]["ports"]
    }
    for name, pod in o.pods(helm.parse(path.read_text())):
        assert restricted.violations(pod["spec"]) == [], name
        (container,) = pod["spec"]["containers"]
        environment = {item["name"]: item["value"] for item in container["env"]}
        assert environment["INFERMESH_ADDRESS"].removeprefix("dns:///") in services, name
        assert container["image"].split(":")[0] in ("infermesh-gateway", "infermesh-worker")
        if container["command"][0] == "infermesh":
            _assert_command(container["command"][1:])


def _assert_command(words):
    program = Path(sys.executable).with_name("infermesh")  # it refuses unknown options before it helps
    done = subprocess.run([program, *words, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_example_with_files_is_whole():
    folder = K8S / "examples" / "iris"
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    (generated,) = kustomization["configMapGenerator"]
    assert set(generated["files"]) == {path.name for path in folder.iterdir()} - {"kustomization.yaml", "job.yaml"}
    (job,) = helm.parse((folder / "job.yaml").read_text())
    (volume,) = [v for v in o.pod_template(job)["spec"]["volumes"] if "configMap" in v]
    assert volume["configMap"]["name"] == generated["name"]
    assert len((folder / "iris.csv").read_text().splitlines()) == 151


def test_every_file_is_listed():
    listed = (K8S / "README.md").read_text()
    named = [path.relative_to(K8S).as_posix() for path in (*K8S.glob("*.yaml"), *(K8S / "examples").iterdir())]
    assert all(f"`{name}" in listed for name in named), named
