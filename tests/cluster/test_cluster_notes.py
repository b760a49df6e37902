"""What people are told to type: the commands of the chart's notes, and the examples of `k8s/`."""

import re
import shlex
import sys
from pathlib import Path

import pytest
import yaml

from tests.cluster.kubectl import run
from tests.cluster.release import Forward

EXAMPLES = Path(__file__).parents[2] / "k8s" / "examples"


def commands(release):
    """Returns the commands in the notes of a release, as words."""
    notes = release.helm("get", "notes", release.name)
    return [shlex.split(line) for line in notes.splitlines() if line.startswith("  ")]


def test_the_commands_of_the_notes_work(release):
    found = commands(release)
    assert [words[0] for words in found] == ["kubectl", "kubectl", "helm", "kubectl", "infermesh", "kubectl"]
    pods, status, test, forward, from_here, delete = found
    assert all(pod["metadata"]["name"] in run(*pods) for pod in release.settled())
    assert "served" in run(*status)
    assert "Phase:          Succeeded" in run(*test, timeout=300.0)
    assert f"service/{release.fullname}-gateway" in forward
    assert forward[-1] == "8080:8080"
    with Forward(release.kube, f"{release.fullname}-gateway", 8080) as gateway:
        program = str(Path(sys.executable).with_name("infermesh"))
        assert from_here[-1] == "127.0.0.1:8080"
        assert "served" in run(program, *from_here[1:-1], gateway.address)
    assert f"{release.fullname}-registry" in run(*delete, "--dry-run=server")


def test_the_addresses_of_the_notes_are_those_of_services(release):
    namespace = release.kube.namespace
    told = set(re.findall(rf"[\w-]+\.{namespace}:\d+", release.helm("get", "notes", release.name)))
    services = release.kube.items("services", release.selector("gateway"))
    assert told == {
        f"{service['metadata']['name']}.{namespace}:{port['port']}"
        for service in services
        for port in service["spec"]["ports"]
        if port["name"] != "metrics"
    }


@pytest.fixture
def apply(release, values, tmp_path):
    """Applies one of the examples to the release under test, waits for its job, and returns what that printed."""
    made = []
    image, gateway = values["image"], f"{release.fullname}-gateway"

    def do(objects):
        for item in objects:
            item["metadata"]["namespace"] = release.kube.namespace
            for container in item.get("spec", {}).get("template", {}).get("spec", {}).get("containers", []):
                name = container["image"].partition(":")[0]
                registry = f"{image['registry']}/" if "registry" in image else ""
                container["image"] = f"{registry}{name}:{image['tag']}"
                (address,) = [item for item in container["env"] if item["name"] == "INFERMESH_ADDRESS"]
                address["value"] = address["value"].replace("infermesh-gateway", gateway)
        made.extend(objects)
        release.kube.apply(*objects)
        (job,) = [item["metadata"]["name"] for item in objects if item["kind"] == "Job"]
        release.kube("wait", "--for=condition=Complete", f"job/{job}", "--timeout=240s", timeout=260.0)
        return release.kube("logs", f"job/{job}")

    yield do
    for item in made:
        release.kube("delete", item["kind"], item["metadata"]["name"], "--ignore-not-found")


def test_the_examples_train_deploy_and_call(release, apply):
    assert "irises" in apply(list(yaml.safe_load_all(run("kubectl", "kustomize", str(EXAMPLES / "iris")))))
    try:
        assert "least_load" in apply([yaml.safe_load((EXAMPLES / "deployment.yaml").read_text())])
        assert "scores [4, 3]" in apply([yaml.safe_load((EXAMPLES / "client.yaml").read_text())])
    finally:
        gateway = f"deployment/{release.fullname}-gateway"
        release.kube.exec(gateway, "infermesh", "undeploy", "iris", "--address", "127.0.0.1:8080")
