"""Which paths the chart's NetworkPolicies leave open: those that the mesh needs, and no other."""

import pytest

from tests.chart import objects as o
from tests.chart.helm import NAMESPACE, values
from tests.chart.network import End, allowed

PUBLIC = (8080, 8081)
PORTS = (*PUBLIC, 8086, 8301, 8302, 8303, 8304, 8305, 9090, 22, 443)
MESH = {
    ("gateway", "registry", 8302),
    ("gateway", "scheduler", 8301),
    ("gateway", "worker", 8304),
    ("gateway", "worker", 8305),
    ("scheduler", "registry", 8302),
    ("worker", "registry", 8302),
    ("worker", "scheduler", 8301),
}
HERE = {"kubernetes.io/metadata.name": NAMESPACE}
STRANGERS = [
    End("a pod beside the mesh", {"app": "shop"}, HERE),
    End("a pod elsewhere", {"app": "shop"}, {"kubernetes.io/metadata.name": "shop"}),
    End("another release", {"app.kubernetes.io/name": "infermesh", "app.kubernetes.io/instance": "other"}, HERE),
    End("a host outside", address="203.0.113.9"),
]
DNS = End("DNS", {"k8s-app": "kube-dns"}, {"kubernetes.io/metadata.name": "kube-system"})
API = End("the API server", address="192.0.2.1")
OUTSIDE = End("the internet", address="203.0.113.9")
KEDA = End("KEDA", {"app": "keda-operator"}, {"kubernetes.io/metadata.name": "keda"})


def _policies(objects):
    found = o.of(objects, "NetworkPolicy")
    if not found:
        pytest.skip("this value set has no policies")
    return found


def _ends(objects):
    return [End(o.component(w), o.labels(o.pod_template(w)), HERE) for w in o.services(objects)]


def test_the_default_has_policies(renderings):
    assert o.of(renderings.objects(), "NetworkPolicy")
    assert not o.of(renderings.objects(*values(**{"networkPolicy.enabled": False})), "NetworkPolicy")


def test_services_reach_what_they_need_and_nothing_else(objects):
    policies, ends = _policies(objects), _ends(objects)
    open_paths = {
        (source.name, target.name, port)
        for source in ends
        for target in ends
        for port in PORTS
        if allowed(policies, source, target, port)
    }
    assert open_paths == MESH


def test_every_pool_has_its_paths(objects):
    policies, ends = _policies(objects), _ends(objects)
    (gateway,) = [end for end in ends if end.name == "gateway"]
    workers = [end for end in ends if end.name == "worker"]
    assert all(allowed(policies, gateway, end, port) for end in workers for port in (8304, 8305))


@pytest.mark.parametrize("stranger", STRANGERS, ids=lambda end: end.name)
def test_from_outside_only_the_gateway_answers(renderings, stranger):
    objects = renderings.objects()
    policies = _policies(objects)
    reached = {(end.name, port) for end in _ends(objects) for port in PORTS if allowed(policies, stranger, end, port)}
    assert reached == {("gateway", port) for port in PUBLIC}


def test_clients_can_be_named(renderings):
    shop = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "shop"}}}]
    objects = renderings.objects(*values(**{"networkPolicy.clients": shop}))
    policies = _policies(objects)
    (gateway,) = [end for end in _ends(objects) if end.name == "gateway"]
    for port in PUBLIC:
        assert [allowed(policies, stranger, gateway, port) for stranger in STRANGERS] == [False, True, False, False]


def test_the_pod_of_helm_test_reaches_the_public_ports_alone(objects):
    policies = _policies(objects)
    (pod,) = [pod for pod in o.of(objects, "Pod") if o.is_hook(pod)]
    test = End("test", o.labels(pod), HERE)
    reached = {(end.name, port) for end in _ends(objects) for port in PORTS if allowed(policies, test, end, port)}
    assert reached == {("gateway", port) for port in PUBLIC}


def test_services_reach_nothing_outside_but_names_and_the_api_server(objects):
    policies = _policies(objects)
    databases = {5432} if "postgres" in str(objects) or "DATABASE_URL" in str(objects) else set()
    for end in _ends(objects):
        assert allowed(policies, end, DNS, 53, "UDP"), end.name
        assert allowed(policies, end, DNS, 53, "TCP"), end.name
        ports = {port for port in (53, 80, 443, 5432, 6443) if allowed(policies, end, OUTSIDE, port)}
        assert ports == {"scheduler": {443, 6443}, "registry": databases}.get(end.name, set()), end.name


def test_only_the_scheduler_can_be_asked_by_keda_where_a_pool_wants_it(renderings):
    pool = {"pools.cpu.autoscaling": {"mode": "keda", "min": 0, "max": 3}}
    objects = renderings.objects(*values(**pool))
    policies = _policies(objects)
    assert {end.name for end in _ends(objects) if allowed(policies, KEDA, end, 8303)} == {"scheduler"}
    plain = renderings.objects()
    assert not [end for end in _ends(plain) if allowed(_policies(plain), KEDA, end, 8303)]


def test_no_rule_is_open_to_everything(objects):
    for policy in o.of(objects, "NetworkPolicy"):
        assert set(policy["spec"]["policyTypes"]) == {"Ingress", "Egress"}
        for rule in [*(policy["spec"].get("ingress") or []), *(policy["spec"].get("egress") or [])]:
            assert rule.get("ports"), o.name(policy)
