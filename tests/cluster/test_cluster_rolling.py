"""Under load, everything that operators do every day: nobody who calls may notice, and no token stream may break.

Two plain clients that repeat nothing: one keeps one connection to the service, one balances itself over the headless
service. Every call is accounted for.
"""

import pytest

from tests.cluster.kubectl import names
from tests.cluster.load import Load
from tests.cluster.release import POOL
from tests.cluster.serving import two_clients

WORKER, GATEWAY = "worker", "gateway"
FEWER = 5_000  # calls, where what happens takes but a moment


@pytest.fixture
def under_load(load, settings, capsys):
    """The load, whose books are checked at the end; a test says in `load.doing` what it does."""
    with load:
        yield load
        load.until(settings.calls)
    with capsys.disabled():
        print(f"\n  {load}", flush=True)
    load.check(settings.calls)


def test_scaling_fails_no_call(release, under_load):
    for replicas in (4, 1, 3, 2):
        for component in (WORKER, GATEWAY):
            under_load.doing(f"{component} to {replicas}")
            release.scale(component, replicas)


def test_restarts_of_each_service_fail_no_call(release, under_load):
    for component in (WORKER, GATEWAY, "scheduler", "registry"):
        under_load.doing(f"restart of {component}")
        release.restart(component)


def test_an_upgrade_and_its_rollback_fail_no_call(release, under_load, settings):
    note = {"podAnnotations": {"infermesh.io/test": "upgrade"}}
    components = ("gateway", "registry", "scheduler", "worker")
    changes = {name: release.values.get(name, {}) | note for name in components}
    if settings.next_tag:
        changes["image"] = release.values["image"] | {"tag": settings.next_tag}
    under_load.doing("upgrade")
    release.upgrade(**changes)
    release.settled()
    under_load.doing("rollback")
    release.rollback()
    release.settled()


def test_deleted_pods_of_each_kind_fail_no_call(release, under_load):
    for component in (WORKER, GATEWAY, "scheduler", "registry"):
        under_load.doing(f"deletion of a {component}")
        release.delete_pod(component)


def test_workers_deleted_by_force_fail_no_call(release, settings, place, capsys):
    what = two_clients(release, settings.rate) | {"streams": []}  # a stream that has begun is lost with its worker
    with Load(release.kube, place, what) as load:
        load.until(1_000)
        for number in (1, 2):
            load.doing(f"forced deletion {number}")
            release.delete_pod(WORKER, force=True)
        load.until(FEWER)
    with capsys.disabled():
        print(f"\n  {load}", flush=True)
    load.check(FEWER)


def test_a_drained_node_fails_no_call(release, under_load, nodes):
    if len(nodes) < 2:
        pytest.skip("needs two nodes")
    node = nodes[-1]
    on_it = [pod for pod in release.settled() if pod["spec"]["nodeName"] == node]
    assert on_it, f"nothing runs on {node}"
    under_load.doing(f"drain of {node} with {', '.join(names(on_it))}")
    drain = ["drain", node, f"--pod-selector={release.selector()}", "--delete-emptydir-data", "--timeout=300s"]
    try:
        release.kube(*drain, timeout=310)
        release.settled()
    finally:
        release.kube("uncordon", node)
    under_load.doing("uncordon")
    release.restart(WORKER)
    assert any(pod["spec"]["nodeName"] == node for pod in release.pods(WORKER)), f"{POOL}: {node} is not used again"
