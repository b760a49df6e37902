"""A node loses its power: no goodbye, the wire is dead first. Then it comes back."""

import time
from dataclasses import dataclass

import pytest

from tests.cluster.kubectl import is_ending, is_ready, until
from tests.cluster.load import Load
from tests.cluster.release import START
from tests.cluster.serving import plain_client, serve

LONGEST = 5.0  # seconds of a call that was on a worker whose power was cut: it is sent again elsewhere
NOTICED = 20.0  # seconds after the cut in which a call may meet it; later ones meet the pods that start in its place
ELSEWHERE = 10.0  # seconds after which a client with keepalive has left a gateway whose power was cut
REPLACED = 60.0  # seconds until what was on the node runs elsewhere
RATE = 50.0  # calls per second of each client of the SDK; the plain one makes three times as many
CALLS = 6_000  # plain ones

pytestmark = pytest.mark.usefixtures("alone")


@pytest.fixture(scope="module")
def victim(settings, nodes):
    """The node that may be cut off; the test is skipped where there is none."""
    settings.need("STOP_NODE", "START_NODE")
    if settings.victim not in nodes or len(nodes) < 2:
        pytest.skip("needs two nodes, and INFERMESH_CLUSTER_VICTIM to name one that may be cut off")
    return settings.victim


@pytest.fixture(scope="module")
def spread_release(new_release, model, nodes, victim):
    """A release whose workers and gateways are on both nodes, and everything else on the one that stays."""
    stays = {"nodeSelector": {"kubernetes.io/hostname": nodes[0]}}
    base = new_release("nodes")
    base.values |= {name: base.values[name] | stays for name in ("registry", "scheduler")}
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


@pytest.fixture(scope="module")
def power(settings, victim):
    """The victim's power, which it has again after the tests."""
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


@dataclass(frozen=True)
class Outage:
    """What was seen while the victim had no power."""

    began: float
    replaced: float
    """Seconds until everything that was on the victim was ready elsewhere."""
    plain: Load
    """Plain clients of a gateway that stays, whose workers were on both nodes."""
    sdk: Load
    """Clients of the SDK, which find the gateways by themselves; they had left before the workers were moved back."""


def clients(release, rate, node):
    """Describes a plain client of the gateway on a node, and clients of the SDK of all gateways."""
    (gateway,) = on(release, node, "gateway")
    stays = {"target": f"ipv4:{gateway['status']['podIP']}:8080"}
    targets = {"sdk": release.service("gateway"), "sdk-many": release.service("gateway-headless")}
    sdk = [
        {"name": name, "target": f"dns:///{host}:8080", "deployment": "served", "rate": rate, "kind": "sdk"}
        for name, host in targets.items()
    ]
    return {"clients": [plain_client(release, "plain", "served", 3 * rate) | stays]}, {"clients": sdk}


@pytest.fixture(scope="module")
def outage(spread_release, nodes, place, victim, power):
    """Cuts the victim's power under load, gives it back, and moves workers there again."""
    release = spread_release
    for component in ("worker", "gateway"):
        assert on(release, victim, component), f"no {component} on {victim}"
    plain, sdk = clients(release, RATE, nodes[0])
    with Load(release.kube, place, plain, name="plain") as plain_load:
        with Load(release.kube, place, sdk, name="sdk") as sdk_load:
            sdk_load.until(500)
            for load in (plain_load, sdk_load):
                load.doing("power cut")
            began = time.time()
            power.cut()
            replaced = wait_replaced(release, victim, began)
            plain_load.doing("return")
            power.restore()
            until(
                lambda: not any(map(is_ending, on(release, victim))), "the node is rid of its old pods", timeout=START
            )
        release.restart("worker")
        assert on(release, victim, "worker"), "the node is not used again"
        plain_load.until(CALLS)
    return Outage(began, replaced, plain_load, sdk_load)


def test_workers_without_power_fail_no_call(outage, tell):
    longest = outage.plain.slowest(outage.began - LONGEST, outage.began + NOTICED)
    tell(f"{outage.plain}; of those at the cut {longest} s")
    outage.plain.check(CALLS)
    assert longest <= LONGEST


def test_clients_leave_a_gateway_without_power(outage, tell):
    tell(str(outage.sdk))
    for book in outage.sdk.books.values():
        for failure in book["failures"] if isinstance(book, dict) else ():
            assert failure["at"] + failure["took"] < outage.began + ELSEWHERE, outage.sdk.failures()
            assert "NotReady" in failure["what"], outage.sdk.failures()
        assert not isinstance(book, dict) or book["slowest"] < ELSEWHERE, str(outage.sdk)


def test_what_was_on_the_node_soon_runs_elsewhere(outage, tell):
    tell(f"replaced after {outage.replaced:.0f} s")
    assert outage.replaced < REPLACED
