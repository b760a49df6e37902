"""Who reaches whom, and what a pod that was taken over may do: nothing that its service does not need."""

import json
from collections import defaultdict

import pytest

from tests.cluster.kubectl import CommandFailed, until
from tests.cluster.load import SCRIPTS, script_map, script_pod

PUBLIC = {("gateway", 8080), ("gateway", 8081)}
PORTS = (8080, 8081, 8301, 8302, 8303, 8304, 8305)
BESIDE = (8086, 9090)  # health is for the kubelet, metrics for what monitors
NEEDED = {
    "gateway": {("worker", 8304), ("worker", 8305), ("scheduler", 8301), ("registry", 8302)},
    "scheduler": {("registry", 8302)},
    "registry": set(),
    "worker": {("scheduler", 8301), ("registry", 8302)},
    "outside": PUBLIC,
    "foreign": PUBLIC,
}
HARMLESS = ("selfsubjectreviews", "selfsubjectaccessreviews", "selfsubjectrulesreviews")


@pytest.fixture(scope="module")
def targets(release):
    """Components by every address that their pods might listen on."""
    found = {}
    for pod in release.settled():
        component = pod["metadata"]["labels"]["app.kubernetes.io/component"]
        for port in (*PORTS, *BESIDE):
            found[f"{pod['status']['podIP']}:{port}"] = (component, port)
    return found


@pytest.fixture(scope="module")
def stranger(release, make_namespace, place):
    """Makes pods that are no part of the mesh; returns the kubectl to ask them with."""
    started = {}

    def start(kind):
        if kind not in started:
            kube = release.kube if kind == "outside" else make_namespace("foreign")
            sleeper = script_pod("stranger", "idle.py", place, {}, {"infermesh-test": "stranger"})
            kube.apply(script_map("scripts"), sleeper)
            until(lambda: kube.get("pod", "stranger")["status"]["phase"] == "Running", "the stranger runs")
            started[kind] = kube
        return started[kind]

    return start


def reached(kube, pod, targets):
    """Returns which components and ports a pod can connect to."""
    script = (SCRIPTS / "paths.py").read_text()
    told = json.loads(kube.exec(pod, "python", "-c", script, json.dumps(list(targets))))
    paths = defaultdict(bool)
    for address, open_ in told.items():
        paths[targets[address]] |= open_
    return {path for path, open_ in paths.items() if open_}


@pytest.mark.parametrize("source", ["gateway", "registry", "scheduler", "worker"])
def test_a_service_reaches_those_it_needs_and_no_other(release, targets, source):
    pod = release.pods(source)[0]
    others = {
        address: path for address, path in targets.items() if not address.startswith(pod["status"]["podIP"] + ":")
    }
    assert reached(release.kube, pod["metadata"]["name"], others) == NEEDED[source]


@pytest.mark.parametrize("source", ["outside", "foreign"])
def test_other_pods_reach_the_gateways_alone(stranger, targets, source):
    assert reached(stranger(source), "stranger", targets) == NEEDED[source]


def test_no_role_has_a_wildcard_and_none_is_of_the_whole_cluster(release):
    roles = release.kube.items("roles", release.selector())
    for role in roles:
        for rule in role["rules"]:
            assert "*" not in json.dumps(rule), role["metadata"]["name"]
    for kind in ("clusterroles", "clusterrolebindings"):
        assert release.kube.items(kind, release.selector()) == []


@pytest.mark.parametrize("component", ["gateway", "registry", "worker"])
def test_a_service_that_asks_kubernetes_nothing_has_no_token_and_may_do_nothing(release, component):
    pod = release.pods(component)[0]
    account = pod["spec"]["serviceAccountName"]
    assert account != "default"
    code = "import os; print(os.path.exists('/var/run/secrets/kubernetes.io/serviceaccount'))"
    assert release.kube.exec(pod["metadata"]["name"], "python", "-c", code).strip() == "False"
    name = f"system:serviceaccount:{release.kube.namespace}:{account}"
    rights = release.kube("auth", "can-i", "--list", "--no-headers", f"--as={name}", "--as-group=system:authenticated")
    resources = [line.split()[0].partition(".")[0] for line in rights.splitlines() if not line.startswith(" ")]
    assert [each for each in resources if not each.startswith(HARMLESS)] == []


@pytest.mark.parametrize(
    "right", ["list leases", "update leases/another", "get secrets", "create pods", "delete pods", "patch deployments"]
)
def test_the_scheduler_may_do_no_more_than_lead(release, right):
    account = release.pods("scheduler")[0]["spec"]["serviceAccountName"]
    who = f"--as=system:serviceaccount:{release.kube.namespace}:{account}"
    with pytest.raises(CommandFailed):  # it says no by its exit status
        release.kube("auth", "can-i", *right.split(), who)


def test_every_pod_is_restricted(release):
    """The namespace refuses other pods; here it is seen that the settings are the pods' own, and the root read-only."""
    for pod in release.pods():
        for container in pod["spec"]["containers"] + pod["spec"].get("initContainers", []):
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"]["drop"] == ["ALL"]
        assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
        assert pod["spec"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
