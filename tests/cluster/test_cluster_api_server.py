"""The mesh serves on while nobody hears from Kubernetes, and two schedulers never lead at a time."""

import json
import subprocess
import time

import pytest

from tests.cluster.kubectl import names, until
from tests.cluster.load import SCRIPTS

AWAY = 60.0  # seconds without the API server
KILL = """
import os, pathlib
for process in pathlib.Path("/proc").glob("[0-9]*"):
    if b"infermesh" in (process / "cmdline").read_bytes() and process.name not in ("1", str(os.getpid())):
        os.kill(int(process.name), 9)
"""
NEW_LEADER = 15.0  # seconds from a leader's death to the next leader


class Watch:
    """Looks from a gateway, five times a second, how many schedulers lead; `counts` has (time, count)."""

    def __init__(self, release, seconds):
        pods = release.settled("scheduler")
        addresses = json.dumps([f"{pod['status']['podIP']}:8301" for pod in pods])
        script = (SCRIPTS / "leaders.py").read_text()
        gateway = names(release.pods("gateway"))[0]
        command = ["kubectl", "--namespace", release.kube.namespace, "exec", gateway, "--", "python", "-c", script]
        self._process = subprocess.Popen([*command, addresses, str(seconds)], stdout=subprocess.PIPE, text=True)

    def counts(self):
        """Waits for the end of the watch."""
        told, _ = self._process.communicate(timeout=180)
        return [(float(at), int(count)) for at, count in map(str.split, told.splitlines())]


pytestmark = pytest.mark.usefixtures("alone")


@pytest.fixture
def api_server(settings):
    """Cuts the pods off the API server when called with True, mends it when called with False and after the test."""
    settings.need("CUT_API", "MEND_API")
    yield lambda cut: settings.do("CUT_API" if cut else "MEND_API")
    settings.do("MEND_API")


def test_serving_goes_on_without_the_api_server_and_no_two_lead(release, load, settings, api_server, tell):
    load.turn()
    watch = Watch(release, AWAY + 20)
    load.doing("API server cut")
    api_server(True)
    time.sleep(AWAY)
    load.doing("API server back")
    api_server(False)
    counts = watch.counts()
    load.until(settings.calls)
    tell(str(load))
    load.check(settings.calls)
    assert max(count for _, count in counts) == 1
    assert counts[-1][1] == 1, "the lease was not regained"
    assert any(count == 0 for _, count in counts), "the leader went on without its lease"


def test_a_leader_that_dies_is_soon_replaced_and_nobody_notices(release, load, tell):
    load.turn()
    load.until(1_000)
    (lease,) = release.kube.items("leases", "")
    holder = lease["spec"]["holderIdentity"]
    load.doing(f"death of {holder}")
    began = time.monotonic()
    release.kube.exec(holder.partition("_")[0], "python", "-c", KILL)
    until(lambda: _leader(release) not in ("", holder), "a new leader", timeout=2 * NEW_LEADER, pause=0.3)
    took = time.monotonic() - began
    release.settled("scheduler")
    load.until(5_000)
    tell(f"{load}; a new leader after {took:.1f} s")
    load.check(5_000)
    assert took < NEW_LEADER


def _leader(release):
    (lease,) = release.kube.items("leases", "")
    return lease["spec"].get("holderIdentity", "")
