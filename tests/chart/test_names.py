"""Names, labels and selectors: two releases never meet, and everything finds what it means and nothing else."""

from itertools import pairwise, product

import pytest

from tests.chart import objects as o
from tests.chart.helm import values

WORKLOAD_OF = {"HorizontalPodAutoscaler": "scaleTargetRef", "ScaledObject": "scaleTargetRef"}


def _key(item: o.Object) -> tuple[str, str]:
    return item["kind"], item["metadata"]["name"]


def test_nothing_is_made_twice(objects):
    keys = [_key(item) for item in objects]
    assert len(set(keys)) == len(keys)


def test_everything_is_in_the_namespace_of_the_release(objects):
    assert {item["metadata"].get("namespace") for item in objects} == {"models"}


def test_labels_are_those_that_kubernetes_recommends(objects):
    for item in objects:
        labels = o.labels(item)
        assert labels["app.kubernetes.io/name"] == "infermesh", o.name(item)
        assert labels["app.kubernetes.io/instance"] == "mesh"
        assert labels["app.kubernetes.io/part-of"] == "infermesh"
        assert {"app.kubernetes.io/version", "app.kubernetes.io/managed-by", o.COMPONENT} <= set(labels), o.name(item)


def test_every_selector_matches_its_own_pods_and_no_others(objects):
    workloads = o.services(objects)
    for item in objects:
        chosen = o.selector(item)
        if chosen is None or not chosen:
            continue
        found = [w for w in workloads if o.matches(chosen, o.labels(o.pod_template(w)))]
        if not found:  # a policy may be about the pods of `helm test`
            assert [p for p in o.of(objects, "Pod") if o.matches(chosen, o.labels(p))], o.name(item)
            continue
        if item["kind"] == "NetworkPolicy":
            continue
        assert {o.component(w) for w in found} == {o.component(item)}, o.name(item)
        pool = o.labels(item).get(o.POOL)
        assert pool is None or {o.labels(w).get(o.POOL) for w in found} == {pool}, o.name(item)
        assert item["kind"] not in o.WORKLOADS or found == [item]


def test_labels_of_users_are_part_of_no_selector(renderings):
    settings = {f"{name}.podLabels": {"team": "vision"} for name in ("gateway", "registry", "scheduler", "worker")}
    plain, labelled = renderings.objects(), renderings.objects(*values(**settings))
    assert [o.selector(item) for item in plain] == [o.selector(item) for item in labelled]
    assert all(o.labels(o.pod_template(w))["team"] == "vision" for w in o.services(labelled))


def test_autoscalers_name_a_workload_that_leaves_its_replicas_to_them(objects):
    workloads = {_key(w): w for w in o.services(objects)}
    scaled = []
    for item in o.of(objects, *WORKLOAD_OF):
        target = item["spec"]["scaleTargetRef"]
        scaled.append((target.get("kind", "Deployment"), target["name"]))
        assert "replicas" not in workloads[scaled[-1]]["spec"], o.name(item)
    assert len(set(scaled)) == len(scaled)


def test_whoever_scales_a_workload_is_alone(objects):
    """An autoscaler's object, the scheduler itself (pools with `builtin`), or the chart's number."""
    owners = [item["spec"]["scaleTargetRef"]["name"] for item in o.of(objects, *WORKLOAD_OF)]
    scheduler = next(w for w in o.services(objects) if o.component(w) == "scheduler")
    pools = o.config(objects, o.pod_template(scheduler)["spec"]).get("pools", {})
    builtin = [pool["workload"] for pool in pools.values() if pool["autoscaling"] == "builtin"]
    fixed = [w["metadata"]["name"] for w in o.services(objects) if "replicas" in w["spec"]]
    everyone = [w["metadata"]["name"] for w in o.services(objects)]
    assert sorted([*owners, *builtin, *fixed]) == sorted(everyone)
    assert {pool["workload"] for pool in pools.values()} <= set(everyone)


def test_roles_name_objects_that_are_there(objects):
    names = {kind: [item["metadata"]["name"] for item in o.of(objects, kind)] for kind in ("Lease", "Deployment")}
    kinds = {"leases": "Lease", "deployments/scale": "Deployment"}
    for role in o.of(objects, "Role"):
        for rule in role["rules"]:
            for resource in rule["resources"]:
                assert set(rule.get("resourceNames", [])) <= set(names.get(kinds.get(resource, ""), [])), rule


def test_services_name_ports_that_their_pods_have(objects):
    for service in o.of(objects, "Service"):
        for workload in o.services(objects):
            if not o.matches(o.selector(service), o.labels(o.pod_template(workload))):
                continue
            ports = {port["name"] for port in o.pod_template(workload)["spec"]["containers"][0]["ports"]}
            assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports, o.name(service)
        assert not service["spec"].get("publishNotReadyAddresses"), o.name(service)


def _gateway_ports(objects: list[o.Object], name: str) -> dict[str, o.Object]:
    (service,) = [item for item in o.of(objects, "Service") if item["metadata"]["name"] == name]
    return {port["name"]: port for port in service["spec"]["ports"]}


def test_both_public_ports_are_in_both_services_of_the_gateway(objects):
    (gateway,) = [w for w in o.services(objects) if o.component(w) == "gateway"]
    listens = {
        port["name"]: port["containerPort"] for port in o.pod_template(gateway)["spec"]["containers"][0]["ports"]
    }
    front = "https" if "front_tls" in o.config(objects, o.pod_template(gateway)["spec"]) else "kubernetes.io/h2c"
    found = _gateway_ports(objects, "mesh-infermesh-gateway")
    headless = _gateway_ports(objects, "mesh-infermesh-gateway-headless")
    for name in ("grpc", "grpc-port"):
        assert found[name]["targetPort"] == headless[name]["targetPort"] == name
        assert found[name]["appProtocol"] == headless[name]["appProtocol"] == front
        assert headless[name]["port"] == listens[name]  # no proxy is between: these reach the pods themselves
        assert "nodePort" not in found[name]
    assert set(found) == {"grpc", "grpc-port"}
    assert set(headless) == {"grpc", "grpc-port", "metrics"}


def test_the_ports_of_the_gateways_service_are_those_of_the_values(renderings):
    ports = {"type": "NodePort", "port": 80, "nodePort": 30080, "grpcPort": 81, "grpcNodePort": 30081}
    objects = renderings.objects(*values(**{f"gateway.service.{key}": value for key, value in ports.items()}))
    found = _gateway_ports(objects, "mesh-infermesh-gateway")
    assert {name: (port["port"], port["nodePort"]) for name, port in found.items()} == {
        "grpc": (80, 30080),
        "grpc-port": (81, 30081),
    }
    headless = _gateway_ports(objects, "mesh-infermesh-gateway-headless")
    assert (headless["grpc"]["port"], headless["grpc-port"]["port"]) == (8080, 8081)
    (test,) = [pod for pod in o.of(objects, "Pod") if o.is_hook(pod)]
    asked = test["spec"]["initContainers"][0]["command"][-2:]
    assert asked == ["mesh-infermesh-gateway:80", "mesh-infermesh-gateway:81"]


def test_addresses_in_configurations_are_those_of_services(objects):
    services = {
        f"{service['metadata']['name']}:{port['port']}"
        for service in o.of(objects, "Service")
        for port in service["spec"]["ports"]
    }
    for workload in o.services(objects):
        config = o.config(objects, o.pod_template(workload)["spec"])
        dialled = {config[key].removeprefix("dns:///") for key in ("registry", "scheduler") if key in config}
        assert {address.split(".")[0] + ":" + address.rpartition(":")[2] if "." in address else address
                for address in dialled} <= services, o.name(workload)  # fmt: skip


RELEASES = ["mesh", "infermesh", "b" * 53, "b" * 51 + "-2", "other"]


def _assert_short(objects: list[o.Object]) -> None:
    for item in objects:
        limit = 52 if item["kind"] in ("StatefulSet", "CronJob") else 63
        assert len(item["metadata"]["name"]) <= limit, o.name(item)
        pods = [o.pod_template(item)] if item["kind"] in o.WORKLOADS else []
        for labelled in (item, *pods):
            assert all(len(str(value)) <= 63 for value in o.labels(labelled).values()), o.name(item)


def test_names_and_labels_are_short_enough(renderings, value_set):
    _assert_short(renderings.objects(*value_set, release="b" * 53))


def test_a_pool_with_the_longest_name_fits(renderings):
    longest = renderings.objects(*values(**{f"pools.{'p' * 15}": {"device": "cpu"}}), release="b" * 53)
    _assert_short(longest)
    assert any(o.labels(item).get(o.POOL) == "p" * 15 for item in longest)


@pytest.mark.parametrize(("one", "other"), list(pairwise(RELEASES)))
def test_two_releases_in_a_namespace_do_not_meet(renderings, one, other):
    mine, theirs = renderings.objects(release=one), renderings.objects(release=other)
    assert not {_key(item) for item in mine} & {_key(item) for item in theirs}
    for item, workload in product(mine, o.services(theirs)):
        chosen = o.selector(item)
        assert not chosen or not o.matches(chosen, o.labels(o.pod_template(workload))), o.name(item)
