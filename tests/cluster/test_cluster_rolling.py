"""Under load, everything that operators do every day: nobody who calls may notice, and no token stream may break.

Two plain clients of each public port, that repeat nothing: one keeps one connection to the service, one balances itself
over the headless service. Every call is accounted for.
"""

import pytest

from tests.cluster.kubectl import names
from tests.cluster.release import POOL

WORKER, GATEWAY = "worker", "gateway"


@pytest.fixture
def under_load(load, settings, tell):
    """The load, with a page of its books for the test, which says in `load.doing` what it does."""
    load.turn()
    yield load
    load.until(settings.calls)
    tell(str(load))
    load.check(settings.calls)
    assert load.streams_told, "there are no token streams"
    assert all(load.streams_told), "no token stream of a client has ended in all that time"


def test_deleted_pods_of_each_kind_fail_no_call(release, under_load):
    for component in (WORKER, GATEWAY, "scheduler", "registry"):
        under_load.doing(f"deletion of a {component}")
        release.delete_pod(component)


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


def test_restarts_of_each_service_fail_no_call(release, under_load):
    for pair in ((WORKER, GATEWAY), ("scheduler", "registry")):
        under_load.doing(f"restart of {' and '.join(pair)}")
        release.restart(*pair)


def test_scaling_fails_no_call(release, under_load):
    for replicas in (4, 1, 3, 2):
        under_load.doing(f"{WORKER}s and {GATEWAY}s to {replicas}")
        release.scale(replicas, WORKER, GATEWAY)


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
