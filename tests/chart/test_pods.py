"""The pods that the chart makes: what they may, how they are asked, and how they end."""

from typing import Any

import pytest

from tests.chart import objects as o
from tests.chart import restricted
from tests.chart.helm import values

SERVICES = ("gateway", "registry", "scheduler", "worker")
LISTENS = {  # the setting of each port
    "grpc": "listen",
    "grpc-port": "grpc_listen",
    "bundles": "bundle_listen",
    "scaler": "scaler_listen",
    "health": "health_listen",
    "metrics": "metrics_listen",
}


def _services(objects: list[o.Object]) -> list[tuple[str, str, Any]]:
    """Returns name, component and pod spec of each service."""
    return [(o.name(w), o.component(w), o.pod_template(w)["spec"]) for w in o.services(objects)]


def test_the_four_services_are_there(objects):
    assert {component for _, component, _ in _services(objects)} == set(SERVICES)


def test_every_pod_satisfies_restricted_pod_security(objects):
    broken = {name: restricted.violations(pod["spec"]) for name, pod in o.pods(objects)}
    assert not {name: lines for name, lines in broken.items() if lines}


def test_the_checker_of_pod_security_sees_what_is_wrong():
    bare = {"containers": [{"name": "x"}], "volumes": [{"name": "v", "hostPath": {"path": "/"}}], "hostNetwork": True}
    assert [line.split(": ", 1)[-1].split()[0] for line in restricted.violations(bare)] == [
        "true", "hostPath", "allowPrivilegeEscalation", "capabilities", "may", "seccompProfile", "the",
    ]  # fmt: skip


def test_a_token_is_mounted_exactly_where_the_account_may_do_something(objects):
    bound = {
        subject["name"]
        for binding in o.of(objects, "RoleBinding", "ClusterRoleBinding")
        for subject in binding["subjects"]
    }
    for name, pod in o.pods(objects):
        spec = pod["spec"]
        mounted = spec.get("automountServiceAccountToken", True)
        assert mounted == (spec.get("serviceAccountName") in bound), name
    accounts = o.of(objects, "ServiceAccount")
    assert bound <= {account["metadata"]["name"] for account in accounts}
    assert all(account.get("automountServiceAccountToken") is False for account in accounts)


def test_every_service_has_an_account_of_its_own(objects):
    accounts = {account["metadata"]["name"]: o.component(account) for account in o.of(objects, "ServiceAccount")}
    for name, component, spec in _services(objects):
        assert accounts[spec["serviceAccountName"]] == component, name


def test_roles_name_what_they_allow(objects):
    assert not o.of(objects, "ClusterRole", "ClusterRoleBinding")
    for role in o.of(objects, "Role"):
        for rule in role["rules"]:
            assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]], o.name(role)
            named = "resourceNames" in rule
            # nothing can be named before it exists, nor by pods, whose names nobody knows before
            assert named or set(rule["verbs"]) <= {"create"} or rule["resources"] == ["pods"], rule
    for binding in o.of(objects, "RoleBinding"):
        roles = {role["metadata"]["name"] for role in o.of(objects, "Role")}
        assert binding["roleRef"]["name"] in roles, o.name(binding)


def test_probes_ask_the_health_port_for_the_right_service(objects):
    for name, component, spec in _services(objects):
        container = spec["containers"][0]
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert ports["health"] == 8086, name
        asked = {probe: container[probe]["grpc"] for probe in restricted.PROBES}
        assert {how["port"] for how in asked.values()} == {ports["health"]}, name
        assert asked["livenessProbe"]["service"] == "liveness", name
        assert asked["readinessProbe"].get("service", "") in ("", "readiness"), name
        assert component == container["name"]


def test_a_pod_has_time_to_drain(objects):
    for name, _, spec in _services(objects):
        config = o.config(objects, spec)
        drain, clients = config["drain"], config.get("clients", {})
        stop = spec["containers"][0].get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        needed = stop + drain.get("lame_duck", 0) + drain.get("timeout", 30) + clients.get("max_address_age", 0)
        assert spec["terminationGracePeriodSeconds"] > needed, name


def test_a_service_listens_where_its_ports_say(objects):
    for name, _, spec in _services(objects):
        config = o.config(objects, spec)
        ports = {port["name"]: port["containerPort"] for port in spec["containers"][0]["ports"]}
        listens = {kind: config[key] for kind, key in LISTENS.items() if key in config}
        assert {kind: f"0.0.0.0:{port}" for kind, port in ports.items()} == listens, name
        assert {"grpc", "health", "metrics"} <= set(ports), name


def test_a_gateway_has_two_public_ports(objects):
    (spec,) = [spec for _, component, spec in _services(objects) if component == "gateway"]
    ports = {port["name"]: port["containerPort"] for port in spec["containers"][0]["ports"]}
    assert ports == {"grpc": 8080, "grpc-port": 8081, "health": 8086, "metrics": 9090}


def test_pods_are_spread_and_leave_dead_nodes(objects):
    for name, _, spec in _services(objects):
        chosen = o.services(objects)
        (labels,) = [o.labels(o.pod_template(w)) for w in chosen if o.name(w) == name]
        for constraint in spec.get("topologySpreadConstraints", []):
            assert o.matches(constraint["labelSelector"], labels), name
        gone = {t["key"]: t["tolerationSeconds"] for t in spec["tolerations"] if t.get("effect") == "NoExecute"}
        assert {"node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"} <= set(gone), name
        assert all(seconds < 60 for seconds in gone.values()), name


def test_containers_say_what_they_need(objects):
    for name, pod in o.pods(objects):
        for container in o.containers(pod["spec"]):
            needs = container["resources"]
            assert {"cpu", "memory"} <= set(needs["requests"]), name
            assert "memory" in needs["limits"], name
            assert not container["image"].endswith((":", ":latest")), name


@pytest.mark.parametrize("component", SERVICES)
def test_a_change_of_the_configuration_restarts_its_own_pods(renderings, component):
    before = _annotations(renderings.objects())
    after = _annotations(renderings.objects(*values(**{f"{component}.config.log.level": "debug"})))
    changed = {name for name in before if before[name] != after[name]}
    assert changed
    assert all(f"-{component}" in name for name in changed)


def _annotations(objects: list[o.Object]) -> dict[str, Any]:
    found = {o.name(w): o.pod_template(w)["metadata"].get("annotations", {}) for w in o.services(objects)}
    assert all(any(key.startswith("checksum/") for key in annotations) for annotations in found.values())
    return found
