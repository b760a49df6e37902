"""The way to the API server when it is cut: a server of this test's stands in for what a network does to requests."""

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from infermesh.errors import ConfigError, NotReady
from infermesh.scheduler.config import LeaseConfig
from infermesh.scheduler.leadership.base import Lease
from infermesh.scheduler.leadership.kubernetes_lease import KubernetesLease, lease_of_cluster

RETRY = 0.3


def lease_at(address: str, folder: Path) -> KubernetesLease:
    """Returns the Lease that the API server at `address` keeps."""
    path = folder / "kubeconfig"
    cluster = {"name": "c", "cluster": {"server": f"http://{address}"}}
    context = {"name": "x", "context": {"cluster": "c", "user": "u"}}
    user = {"name": "u", "user": {"token": "secret"}}
    path.write_text(json.dumps({"clusters": [cluster], "contexts": [context], "users": [user], "current-context": "x"}))
    return lease_of_cluster(
        LeaseConfig(kubeconfig=str(path), namespace="n", retry=RETRY, renew_deadline=1.0, duration=3)
    )


@pytest.fixture
def silent() -> Iterator[str]:
    """An address that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield "{}:{}".format(*listener.getsockname())


@pytest.fixture
def refusing() -> Iterator[str]:
    """An API server that allows nothing."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"kind": "Status", "message": "leases is forbidden", "code": 403}).encode()
            self.send_response(403)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield "{}:{}".format(*httpd.server_address)
        httpd.shutdown()
        thread.join()


@pytest.mark.parametrize("write", [False, True])
async def test_a_request_without_answer_ends(silent: str, tmp_path: Path, write: bool) -> None:
    store = lease_at(silent, tmp_path)
    with pytest.raises(NotReady, match=r"API server: no answer within 0\.21 s"):
        await (store.write(Lease("a", 3)) if write else store.read())


async def test_a_server_that_is_not_there_is_no_surprise(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = "{}:{}".format(*listener.getsockname())
    with pytest.raises(NotReady, match="refused"):
        await lease_at(address, tmp_path).read()


async def test_a_refusal_says_what_the_server_says(refusing: str, tmp_path: Path) -> None:
    with pytest.raises(NotReady, match="lease n/infermesh-scheduler: 403 leases is forbidden"):
        await lease_at(refusing, tmp_path).read()


def test_without_a_cluster_the_setting_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"kubeconfig: not set, and this is no pod"):
        lease_of_cluster(LeaseConfig())
    with pytest.raises(ConfigError, match="kubeconfig: can't use"):
        lease_of_cluster(LeaseConfig(kubeconfig=str(tmp_path / "none")))
