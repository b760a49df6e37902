"""A node loses its power: no goodbye, the wire is dead first. Then it comes back."""

import time

import pytest

from tests.cluster.kubectl import is_ready
from tests.cluster.load import Load
from tests.cluster.serving import serve, two_clients

LONGEST = 5.0  # seconds of a call that was on a worker whose power was cut: it is sent again elsewhere
NOTICED = 20.0  # seconds after the cut in which a call may meet it; later ones meet the pods that start in its place
ELSEWHERE = 10.0  # seconds after which a client with keepalive has left a gateway whose power was cut
REPLACED = 60.0  # seconds until what was on the node runs elsewhere


@pytest.fixture(scope="module")
def victim(settings, nodes):
    """The node that may be cut off; the test is skipped where there is none."""
    settings.need("STOP_NODE", "START_NODE")
    if settings.victim not in nodes or len(nodes) < 2:
        pytest.skip("needs two nodes, and INFERMESH_CLUSTER_VICTIM to name one that may be cut off")
    return settings.victim


@pytest.fixture(scope="module")
def spread_release(new_release, model, nodes, victim):
    """A release whose workers are on both nodes, and everything else on the one that stays."""
    stays = {"nodeSelector": {"kubernetes.io/hostname": nodes[0]}}
    base = new_release("nodes")
    base.values |= {name: base.values[name] | stays for name in ("gateway", "registry", "scheduler")}
    base.install()
    serve(base, model)
    yield base
    base.end()


class Power:
    """The victim's power."""

    def __init__(self, settings):
        self._settings = settings
        self._on = True

    def cut(self):
        """Takes it away: no process of the node says goodbye."""
        self._on = False
        self._settings.do("STOP_NODE")

    def restore(self):
        """Gives it back, once."""
        if not self._on:
            self._on = True
            self._settings.do("START_NODE")


@pytest.fixture
def power(settings, victim):
    """The victim's power, which it has again after the test."""
    held = Power(settings)
    yield held
    held.restore()


def on(release, node, component=""):
    """Returns the pods on a node."""
    return [pod for pod in release.pods(component) if pod["spec"].get("nodeName") == node]


def wait_replaced(release, victim, since):
    """Waits until everything is ready on other nodes; returns the seconds since the cut."""
    while True:
        pods = [pod for pod in release.pods() if pod["spec"].get("nodeName") != victim]
        wanted = sum(each["spec"]["replicas"] for each in release.kube.items("deployments", release.selector()))
        if sum(map(is_ready, pods)) >= wanted:
            return time.time() - since
        assert time.time() - since < 3 * REPLACED, [pod["metadata"]["name"] for pod in pods if not is_ready(pod)]
        time.sleep(1)


def test_workers_without_power_fail_no_call(spread_release, settings, place, victim, power, capsys):
    release = spread_release
    assert on(release, victim, "worker")
    what = two_clients(release, settings.rate) | {
        "streams": []
    }  # a stream that has begun on the dead worker can't be whole
    with Load(release.kube, place, what) as load:
        load.until(2_000)
        load.doing("power cut")
        began = time.time()
        power.cut()
        took = wait_replaced(release, victim, began)
        load.doing("return")
        power.restore()
        release.settled()
        release.restart("worker")
        assert on(release, victim, "worker"), "the node is not used again"
        load.until(settings.calls)
    with capsys.disabled():
        longest = load.slowest(began - LONGEST, began + NOTICED)
        print(f"\n  {load}; of those at the cut {longest} s; replaced after {took:.0f} s", flush=True)
    load.check(settings.calls)
    assert longest <= LONGEST
    assert took < REPLACED


def test_clients_leave_a_gateway_without_power(spread_release, settings, place, victim, power, capsys):
    release = spread_release
    release.upgrade(gateway=release.values["gateway"] | {"nodeSelector": {}})
    release.settled()
    if not on(release, victim, "gateway"):
        release.restart("gateway")
    assert on(release, victim, "gateway")
    targets = {"sdk": release.service("gateway"), "sdk-many": release.service("gateway-headless")}
    clients = [
        {"name": name, "target": f"dns:///{host}:8080", "deployment": "served", "rate": 50, "kind": "sdk"}
        for name, host in targets.items()
    ]
    with Load(release.kube, place, {"clients": clients}) as load:
        load.until(1_000)
        load.doing("power cut")
        began = time.time()
        power.cut()
        took = wait_replaced(release, victim, began)
        power.restore()
        release.settled()
    with capsys.disabled():
        print(f"\n  {load}; replaced after {took:.0f} s", flush=True)
    for book in load.books.values():
        for failure in book["failures"] if isinstance(book, dict) else ():
            assert failure["at"] + failure["took"] < began + ELSEWHERE, load.failures()
            assert "NotReady" in failure["what"], load.failures()
        assert not isinstance(book, dict) or book["slowest"] < ELSEWHERE, str(load)
    assert took < REPLACED
