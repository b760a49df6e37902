"""The front door as real processes: supervisor, Envoy, and an app on our framing. gRPC's own client is the judge."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.mesh.interop_messages import message

pytestmark = pytest.mark.mesh
PORTS = pytest.mark.parametrize("port", ["grpc", "grpc_port"])
"""The port of all protocols, and that of gRPC alone."""
_ROOT = Path(__file__).resolve().parents[2]
_CASES = (
    "empty_unary",
    "large_unary",
    "client_streaming",
    "server_streaming",
    "ping_pong",
    "empty_stream",
    "timeout_on_sleeping_server",
    "cancel_after_begin",
    "cancel_after_first_response",
    "status_code_and_message",
    "special_status_message",
    "custom_metadata",
    "unimplemented_method",
    "unimplemented_service",
    "rpc_soak",
)


class Gateway:
    """A gateway process with the interop app in it."""

    def __init__(self, folder: Path, *flags: str) -> None:
        self.ready_file = folder / "ready.json"
        command = [sys.executable, "-m", "tests.mesh.interop_app", "--ready-file", str(self.ready_file)]
        command += ["--grpc-listen", "127.0.0.1:0", *flags]
        self.stderr = (folder / "stderr").open("w+")
        self.process = subprocess.Popen(command, cwd=_ROOT, stderr=self.stderr)

    def wait_ready(self, port: str = "grpc") -> str:
        """Returns the address of a public port."""
        while self.process.poll() is None:
            if self.ready_file.exists():
                address: str = json.loads(self.ready_file.read_text())["addresses"][port]
                return address
            time.sleep(0.02)
        raise AssertionError(self.log())

    def log(self) -> str:
        """Returns what it has written to standard error."""
        self.stderr.flush()
        return Path(self.stderr.name).read_text()

    def close(self) -> None:
        """Ends it, whatever it does."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.stderr.close()


@contextlib.contextmanager
def gateway(folder: Path, *flags: str) -> Iterator[Gateway]:
    """Runs a gateway process."""
    running = Gateway(folder, *flags)
    try:
        yield running
    finally:
        running.close()


@pytest.fixture(scope="module")
def shared_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway that the tests share."""
    with gateway(tmp_path_factory.mktemp("front")) as running:
        running.wait_ready()
        yield running


@pytest.fixture
def shared(shared_gateway: Gateway, port: str) -> str:
    """Address of one of its ports."""
    return shared_gateway.wait_ready(port)


@pytest.fixture(scope="module")
def interop_client() -> str:
    """Path of gRPC's interop client."""
    found = shutil.which("grpc-interop-client") or _unpacked()
    if not found:
        pytest.skip("grpc-interop-client is not on this machine (PATH, INFERMESH_TOOLS)")
    return found


def _unpacked() -> str:
    get = Path(os.environ.get("INFERMESH_TOOLS", _ROOT.parent / "shared" / "tools")) / "get"
    if not get.exists():
        return ""
    done = subprocess.run([get, "grpc-interop-client"], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


@PORTS
@pytest.mark.parametrize("case", _CASES)
def test_grpc_interop(shared: str, interop_client: str, case: str) -> None:
    host, _, port = shared.rpartition(":")
    command = [interop_client, f"--server_host={host}", f"--server_port={port}", f"--test_case={case}"]
    if case == "rpc_soak":
        command += ["--soak_iterations=200", "--soak_max_failures=0"]
    # one client ends its request and at once wants its answer, while another thread of it tells us that the call is
    # cancelled: where the answer is quicker, the client takes it, and finds fault with that
    for _ in range(3 if case == "cancel_after_begin" else 1):
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode == 0:
            return
    pytest.fail(done.stderr)


def pid_of(channel: grpc.Channel) -> int:
    """Returns the process id of the app."""
    answer = channel.unary_unary("/test.Process/Pid")(b"", timeout=10)
    pid: int = message("SimpleRequest").FromString(answer).response_size
    return pid


def gone(pid: int) -> bool:
    """Waits until a process is gone; False after 10 s."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        with contextlib.suppress(FileNotFoundError):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                time.sleep(0.02)
                continue
        return True
    return False


@PORTS
def test_a_stop_finishes_what_is_under_way_and_says_so_before(tmp_path: Path, port: str) -> None:
    with gateway(tmp_path, "--drain-lame-duck", "0.3") as running:
        with grpc.insecure_channel(running.wait_ready(port)) as channel:
            slow = channel.unary_unary("/test.Process/Slow")
            calls = [slow.future(b"\x10\x07", timeout=20) for _ in range(20)]
            assert pid_of(channel) != running.process.pid
            running.process.send_signal(signal.SIGTERM)
            calls += [slow.future(b"\x10\x07", timeout=20) for _ in range(20)]  # in the lame-duck time
            assert {call.result() for call in calls} == {b"\x10\x07"}
        assert running.process.wait(20) == 0, running.log()
        assert not running.ready_file.exists()
        assert "drain timed out" not in running.log()


@PORTS
def test_a_call_that_never_ends_is_cut_when_the_time_is_up(tmp_path: Path, port: str) -> None:
    with gateway(tmp_path, "--drain-timeout", "0.5") as running:
        with grpc.insecure_channel(running.wait_ready(port)) as channel:
            hanging = channel.unary_unary("/test.Process/Hang").future(b"", timeout=30)
            pid_of(channel)
            running.process.send_signal(signal.SIGTERM)
            assert running.process.wait(20) == 0
            assert hanging.code() is grpc.StatusCode.UNAVAILABLE
        assert "drain timed out" in running.log()


class IdleConnection:
    """A client that speaks bare HTTP/2, to see what is done to it while it asks for nothing."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), 10)
        self._socket.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        self.send(4, 0)  # SETTINGS
        self._buffer = b""

    def send(self, kind: int, flags: int, stream: int = 0, payload: bytes = b"") -> None:
        head = len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big")
        self._socket.sendall(head + payload)

    def ask(self, path: str) -> None:
        """Sends a call with an empty message, as stream 1."""
        fields = {
            b":path": path.encode(),
            b":authority": b"x",
            b"content-type": b"application/grpc",
            b"te": b"trailers",
        }
        block = b"\x83\x86"  # POST, http
        for name, value in fields.items():
            block += b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value
        self.send(1, 4, 1, block)
        self.send(0, 1, 1, bytes(5))

    def next(self) -> tuple[int, int, bytes] | None:
        """Returns kind, flags and payload of the next frame; None at the end."""
        while len(self._buffer) < 9 or len(self._buffer) < 9 + int.from_bytes(self._buffer[:3], "big"):
            more = self._socket.recv(65_536)
            if not more:
                self._socket.close()
                return None
            self._buffer += more
        end = 9 + int.from_bytes(self._buffer[:3], "big")
        frame, self._buffer = self._buffer[:end], self._buffer[end:]
        return frame[3], frame[4], frame[9:]

    def until(self, kind: int) -> bytes:
        """Returns the payload of the next frame of a kind."""
        while (frame := self.next()) is not None:
            if frame[0] == kind:
                return frame[2]
        raise AssertionError("the connection was closed before")


@PORTS
def test_an_idle_connection_is_told_to_go_before_it_is_closed(tmp_path: Path, port: str) -> None:
    goaway, data = 7, 0
    with gateway(tmp_path) as running:
        connection = IdleConnection(running.wait_ready(port))
        connection.until(4)
        running.process.send_signal(signal.SIGTERM)
        assert connection.until(goaway)[:4] == (2**31 - 1).to_bytes(4, "big"), "it may still ask"
        connection.ask("/test.Process/Pid")  # by a client that has not read it yet
        assert len(connection.until(data)) > 5
        assert connection.until(goaway)[:4] == (1).to_bytes(4, "big"), "what came last is named"
        while connection.next() is not None:
            pass
        assert running.process.wait(20) == 0
        assert "drain timed out" not in running.log()


def test_envoy_dies_with_its_supervisor(tmp_path: Path) -> None:
    with gateway(tmp_path) as running, grpc.insecure_channel(running.wait_ready()) as channel:
        pid = pid_of(channel)
        running.process.kill()
        assert gone(pid)


def test_the_supervisor_ends_with_a_reason_when_envoy_dies(tmp_path: Path) -> None:
    with gateway(tmp_path) as running, grpc.insecure_channel(running.wait_ready()) as channel:
        os.kill(pid_of(channel), signal.SIGKILL)
        assert running.process.wait(20) == 1
        assert '"event": "envoy died"' in running.log()


@pytest.mark.parametrize(
    ("flag", "advice"), [("--listen", "is the address taken?"), ("--grpc-listen", "grpc_listen: can't bind")]
)
def test_an_address_that_is_taken_is_one_line_of_advice(tmp_path: Path, flag: str, advice: str) -> None:
    taken = socket.create_server(("127.0.0.1", 0))
    with taken, gateway(tmp_path, flag, f"127.0.0.1:{taken.getsockname()[1]}") as running:
        assert running.process.wait(30) == 2
        assert advice in running.log().splitlines()[-1]
        assert "Traceback" not in running.log()


@PORTS
def test_a_fault_of_ours_leaks_nothing(shared: str) -> None:
    with grpc.insecure_channel(shared) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/test.Process/Fail")(b"", timeout=10)
    error: Any = caught.value
    assert error.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in error.details()


@PORTS
def test_a_deadline_ends_a_handler_that_hangs(shared: str) -> None:
    # the client must not see to it itself, so the deadline goes as plain metadata over a raw connection
    command = ["curl", "-s", "-i", "--http2-prior-knowledge", "--raw", "-X", "POST", "-m", "20"]
    command += ["-H", "content-type: application/grpc", "-H", "te: trailers", "-H", "grpc-timeout: 100m"]
    if shutil.which("curl") is None:
        pytest.skip("curl is not on this machine")
    done = subprocess.run(
        [*command, "--data-binary", "@-", f"http://{shared}/test.Process/Hang"],
        input=bytes(5),
        capture_output=True,
        check=False,
    )
    assert b"grpc-status: 4" in done.stdout, done


@PORTS
@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_compressed_calls(shared: str, compression: grpc.Compression) -> None:
    request = message("SimpleRequest")(response_size=100_000, payload=message("Payload")(body=bytes(50_000)))
    with grpc.insecure_channel(shared, compression=compression) as channel:
        call = channel.unary_unary("/grpc.testing.TestService/UnaryCall")
        answer = message("SimpleResponse").FromString(call(request.SerializeToString(), timeout=10))
    assert len(answer.payload.body) == 100_000


@pytest.mark.parametrize("version", ["--http1.1", "--http2-prior-knowledge"])
def test_http1_and_http2_on_one_port(shared_gateway: Gateway, version: str) -> None:
    assert json.loads(_curl(version, shared_gateway.wait_ready())) == {"error": "Not Found"}


@pytest.mark.parametrize("version", ["--http1.1", "--http2-prior-knowledge"])
def test_the_grpc_port_says_what_it_speaks(shared_gateway: Gateway, version: str) -> None:
    assert "gRPC alone" in _curl(version, shared_gateway.wait_ready("grpc_port"))


def _curl(version: str, address: str) -> str:
    if shutil.which("curl") is None:
        pytest.skip("curl is not on this machine")
    command = ["curl", "-s", version, f"http://{address}/nope"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout
