"""Connections to the front door that are encrypted, and connections that grow old. gRPC's own client is the judge."""

import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import grpc
import pytest

from tests.mesh.test_gateway_front import PORTS, Gateway, IdleConnection, gateway
from tests.tls_files import Authority

pytestmark = pytest.mark.mesh
_GOAWAY, _DATA = 7, 0


@dataclass
class Front:
    """A port of a gateway that speaks TLS, and demands certificates of its clients."""

    port: str
    address: str
    authority: Authority
    clients: Authority

    def channel(self, *, shown: bool = True) -> grpc.Channel:
        """Returns a channel with the certificates of now."""
        files = self.clients.issue("client")
        pair = [Path(files[part]).read_bytes() for part in ("key", "cert")] if shown else [None, None]
        credentials = grpc.ssl_channel_credentials(self.authority.ca.read_bytes(), *pair)
        options = [("grpc.ssl_target_name_override", "front"), ("grpc.use_local_subchannel_pool", 1)]
        return grpc.secure_channel(self.address, credentials, options)


@pytest.fixture(scope="module", params=["grpc", "grpc_port"])
def front(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    folder = tmp_path_factory.mktemp("front")
    authority, clients = Authority(folder / "front"), Authority(folder / "clients")
    files = authority.issue("front", "front", "127.0.0.1")
    flags = ["--front-tls-cert", files["cert"], "--front-tls-key", files["key"]]
    with gateway(folder, *flags, "--front-tls-client-ca", str(clients.ca)) as running:
        yield Front(request.param, running.wait_ready(request.param), authority, clients)


def ask(channel: grpc.Channel, timeout: float = 10) -> bytes:
    with channel:
        answer: bytes = channel.unary_unary("/grpc.testing.TestService/EmptyCall")(b"", timeout=timeout)
        return answer


def refused(channel: grpc.Channel) -> bool:
    with pytest.raises(grpc.RpcError) as caught:
        ask(channel)
    return bool(caught.value.code() is grpc.StatusCode.UNAVAILABLE)  # type: ignore[attr-defined]


def test_who_shows_a_certificate_is_served_and_nobody_else(front: Front) -> None:
    assert ask(front.channel()) == b""
    assert refused(front.channel(shown=False))
    assert refused(grpc.insecure_channel(front.address))


def test_http1_and_http2_are_agreed_on_in_the_handshake(front: Front) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not on this machine")
    files = front.clients.issue("curl")
    command = ["curl", "-s", "-w", "\n%{http_version}", "--cacert", str(front.authority.ca)]
    command += ["--cert", files["cert"], "--key", files["key"], f"https://{front.address}/nope"]
    for flag, version in (("--http1.1", "1.1"), ("--http2", "2")):
        done = subprocess.run([*command, flag], capture_output=True, text=True, check=False)
        body, _, spoken = done.stdout.rpartition("\n")
        expected = '{"error":"Not Found"}' if front.port == "grpc" else "this port speaks gRPC alone"
        assert (body.startswith(expected), spoken) == (True, version), body


def test_renewed_certificates_are_taken_without_a_restart(front: Front, tmp_path: Path) -> None:
    old = Authority(tmp_path / "old")
    old.become(front.authority)
    standing = front.channel()
    grpc.channel_ready_future(standing).result(10)
    hanging = standing.unary_unary("/test.Process/Slow").future(b"\x10\x07", timeout=20)
    front.authority.become(Authority(tmp_path / "new"))
    front.authority.issue("front", "front", "127.0.0.1")
    until = time.monotonic() + 10
    while True:
        try:
            ask(front.channel())
            break
        except grpc.RpcError:
            assert time.monotonic() < until, "the renewed certificate was not taken"
            time.sleep(0.05)
    assert hanging.result() == b"\x10\x07"
    standing.close()
    assert refused(replace(front, authority=old).channel())


@pytest.fixture(scope="module")
def aging_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with gateway(tmp_path_factory.mktemp("aging"), "--clients-max-connection-age", "0.5") as running:
        running.wait_ready()
        yield running


@pytest.fixture
def aging(aging_gateway: Gateway, port: str) -> str:
    return aging_gateway.wait_ready(port)


@PORTS
def test_an_old_connection_is_told_to_go_and_still_served(aging: str) -> None:
    connection = IdleConnection(aging)
    assert connection.until(_GOAWAY)[:4] == (2**31 - 1).to_bytes(4, "big"), "it may still ask"
    connection.ask("/test.Process/Pid")  # by a client that has not read it yet
    assert len(connection.until(_DATA)) > 5
    assert connection.until(_GOAWAY)[:4] == (1).to_bytes(4, "big"), "what came last is named"
    while connection.next() is not None:
        pass


@PORTS
def test_no_call_fails_while_connections_come_and_go(aging: str) -> None:
    with grpc.insecure_channel(aging, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        slow, empty = (
            channel.unary_unary(path) for path in ("/test.Process/Slow", "/grpc.testing.TestService/EmptyCall")
        )
        until, calls = time.monotonic() + 3, []
        while time.monotonic() < until:
            calls += [slow.future(b"\x10\x07", timeout=20), empty.future(b"", timeout=20)]
            time.sleep(0.005)
        assert {call.code() for call in calls} == {grpc.StatusCode.OK}


@PORTS
def test_a_client_that_may_know_no_other_gateway_is_served_until_it_goes(tmp_path: Path, port: str) -> None:
    with gateway(tmp_path, "--clients-max-address-age", "60") as running:
        address = running.wait_ready(port)
        with grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            empty = channel.unary_unary("/grpc.testing.TestService/EmptyCall")
            assert empty(b"", timeout=10) == b""
            running.process.send_signal(signal.SIGTERM)
            for _ in range(30):  # longer than a drain takes
                assert empty(b"", timeout=10) == b""
                assert ask(grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)])) == b""
                time.sleep(0.1)
        assert running.process.wait(20) == 0, running.log()  # though the time is not up
