"""Every service is restarted in turn while calls and token streams go on; nobody who calls may notice.

The clients know both gateways and repeat nothing. The long form goes on for as many calls as `--soak` says.
"""

import time

import pytest

from infermesh.client import Client, Retry
from infermesh.testing.tokens import push_tokens
from tests.mesh.accounted import Accounted, TokenStreams
from tests.mesh.models import samples

SHARE = 0.7  # of what the mesh can do on this machine


def started(make_mesh, files, workers):
    """Starts a mesh that serves `served` (y = 2x + 1) and `tokens` (twenty a second) on every worker."""
    mesh = make_mesh(gateways=2, workers=workers, flags={"worker": ["--allow-python"]})
    with Client(mesh.gateway, retry=Retry(attempts=1)) as client:
        client.push("served", files.onnx(2), samples=samples(2))
        client.deploy("served", version=1, replicas=workers, wait=False)
        client.deploy("tokens", version=push_tokens(client, "tokens", step=0.05), replicas=workers)
        client.deploy("served", version=1, replicas=workers)
    mesh.wait_serving()
    return mesh


def turns(workers):
    """Returns the order of the restarts.

    No gateway right after the other: clients need a moment to find the first again, which a platform gives them.
    """
    return ("gateway", "worker-1", "scheduler", "worker-2", "gateway-2", "registry", "worker-3")[: 4 + workers]


def roll(mesh, name):
    """Tells a service to stop, waits for its end, starts it, and waits until it has everything again."""
    mesh.restart(name)
    mesh.wait_serving(name)


@pytest.mark.timeout(240)
def test_a_round_fails_neither_call_nor_token_stream(make_mesh, files):
    mesh = started(make_mesh, files, workers=2)
    with (
        Accounted(mesh.gateways, "served", rate=100) as calls,
        Accounted(mesh.grpc_ports, "served", rate=100) as others,
    ):
        with (
            TokenStreams(mesh.gateways, "tokens", streams=6, tokens=50) as streams,
            TokenStreams(mesh.grpc_ports, "tokens", streams=6, tokens=50) as more,
        ):
            for name in turns(2)[:2]:
                streams.wait_flowing()
                more.wait_flowing()
                calls.now = others.now = streams.now = more.now = name
                roll(mesh, name)
        for name in turns(2)[2:]:
            calls.now = others.now = name
            roll(mesh, name)
        calls.more(50)
        others.more(50)
    assert calls.failures + others.failures + streams.failures + more.failures == []
    assert min(calls.answered, others.answered) > 500, (calls, others)
    assert min(streams.whole, more.whole) >= 6, (streams, more)


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_rounds_on_end_fail_neither_call_nor_token_stream(make_mesh, files, soak_calls, capsys):
    mesh, rounds = started(make_mesh, files, workers=3), 0
    rate = SHARE * capacity(mesh, "served")
    with (
        Accounted([*mesh.gateways, *mesh.grpc_ports], "served", rate) as calls,
        TokenStreams([*mesh.gateways, *mesh.grpc_ports], "tokens", streams=16, tokens=160) as streams,
    ):
        while rounds < 3 or calls.answered < max(20_000, soak_calls) or streams.whole < 50:
            rounds += 1
            for name in turns(3):
                calls.now = streams.now = f"{name} in round {rounds}"
                roll(mesh, name)
                with capsys.disabled():
                    print(f"{calls.now} at {rate:.0f}/s: {calls}; {streams}", flush=True)
                assert not calls.failures + streams.failures
    assert calls.failures + streams.failures == []


def capacity(mesh, deployment, seconds=5.0):
    """Returns the calls per second that the mesh answers when it is asked for more than it can do."""
    with Accounted(mesh.gateways, deployment, rate=1e5, most=256) as calls:
        calls.more(500)
        before, began = calls.answered, time.monotonic()
        time.sleep(seconds)
        return (calls.answered - before) / (time.monotonic() - began)
