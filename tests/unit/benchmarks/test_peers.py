"""The pure parts of the side-by-side comparison. Nothing is installed here."""

import http.server
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.peers import Grpc, Http, PeerError, Serving, http_json, peers
from benchmarks.peers.environment import Environment, closure, files, reason
from benchmarks.peers.model import mlp
from benchmarks.peers.peer import HERE, features, free_ports
from benchmarks.peers.processes import ProcessTree
from benchmarks.peers.wire import WireError
from infermesh.oip.v2 import grpc_service_pb2 as oip


@pytest.mark.parametrize("peer", peers(), ids=lambda peer: peer.name)
def test_a_peer_has_a_server_and_pins_all_that_it_installs_but_torch(peer) -> None:
    assert (HERE / peer.name / "serve.py").is_file()
    lines = (HERE / peer.name / "requirements.txt").read_text().split()
    assert all("==" in line for line in lines)
    assert not any(line.startswith(("torch==", "nvidia-cu", "triton==")) for line in lines)


def test_the_goals_groups_are_complete() -> None:
    groups = {name: {peer.name for peer in peers() if peer.group == name} for name in ("best", "heavy", "other")}
    assert groups == {
        "best": {"mosec", "fastapi"},
        "heavy": {"mlserver", "kserve", "torchserve"},
        "other": {"pytriton", "litserve", "bentoml", "ray_serve"},
    }


def test_features_survive_json_exactly() -> None:
    x = features(0)
    body = json.loads(http_json("/", lambda row: {"x": row}, lambda answer: answer).body(x))
    np.testing.assert_array_equal(np.asarray(body["x"], np.float32), x[0])


def test_a_grpc_body_is_one_frame_of_about_300_bytes() -> None:
    x = features(0)
    body = Grpc().body(x)
    assert body[0] == 0
    assert int.from_bytes(body[1:5], "big") == len(body) - 5
    assert 280 <= len(body) <= 310
    request = oip.ModelInferRequest.FromString(body[5:])
    assert request.raw_input_contents == [x.tobytes()]


@pytest.mark.parametrize(("in_flight", "connections", "streams"), [(1, 1, 1), (4, 4, 1), (64, 8, 8), (256, 8, 32)])
def test_grpc_load_spreads_the_calls_over_connections(in_flight: int, connections: int, streams: int) -> None:
    load = Grpc().load("127.0.0.1:1", Path("body"), in_flight)
    assert load[:4] == ["-c", str(connections), "-m", str(streams)]
    assert load[-1] == "http://127.0.0.1:1/inference.GRPCInferenceService/ModelInfer"


def test_http_load_has_a_connection_for_each_request_in_flight() -> None:
    load = Http("/predict").load("127.0.0.1:1", Path("body"), 64)
    assert load[:5] == ["--h1", "-c", "64", "-m", "1"]


class _Answer(http.server.BaseHTTPRequestHandler):
    status, wrong_by = 200, 0.0

    def do_POST(self) -> None:
        x = np.frombuffer(self.rfile.read(int(self.headers["content-length"])), np.float32).reshape(1, -1).copy()
        answer = (mlp.predict(x)[0] + self.wrong_by).tobytes()
        self.send_response(self.status)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        """Not on the test's output."""


@pytest.fixture
def serving() -> Iterator[Serving]:
    with http.server.HTTPServer(("127.0.0.1", 0), _Answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        address = f"127.0.0.1:{server.server_port}"
        yield Serving("some", address, Http("/"), ProcessTree(1), Path("body"))
        server.shutdown()
        thread.join()


def test_a_right_answer_passes_the_check(serving: Serving) -> None:
    serving.check()


def test_a_wrong_answer_fails_the_check(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Answer, "wrong_by", 0.01)
    with pytest.raises(PeerError, match="some answers"):
        serving.check()


def test_a_refusal_fails_the_check(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Answer, "status", 503)
    with pytest.raises(PeerError, match="status 503"):
        serving.check()


def test_nobody_there_is_an_error() -> None:
    with pytest.raises(WireError):
        Http("/").ask(f"127.0.0.1:{free_ports(1)[0]}", features(0), 1.0)


def test_the_end_of_a_tree_is_the_end_of_its_children() -> None:
    script = "import subprocess, sys; c = subprocess.Popen(['sleep', '60']); print(c.pid, flush=True); c.wait()"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        tree = ProcessTree(parent.pid)
        assert tree.cpu() > 0
        tree.end()
    assert not Path(f"/proc/{child}/cmdline").exists() or not Path(f"/proc/{child}/cmdline").read_bytes()


def test_torch_is_shared_with_all_that_it_needs() -> None:
    shared = closure("torch")
    names = {path.name for path in files(shared)}
    assert {"torch", "sympy"} <= names
    assert "pytest" not in names
    assert len({one.name for one in shared}) == len(shared)


def test_other_requirements_are_another_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFERMESH_PEERS", str(tmp_path))
    folders = set()
    for number, text in enumerate(("a==1", "a==2", "a==2")):
        path = tmp_path / f"{number}.txt"
        path.write_text(text)
        folders.add(Environment("some", path).folder)
    assert len(folders) == 2
    assert {folder.parent for folder in folders} == {tmp_path}


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (
            "Collecting x\nERROR: No matching distribution found for x\nnotice\n",
            "ERROR: No matching distribution found for x",
        ),
        ("Traceback\nImportError: no y\n\n", "ImportError: no y"),
        ("", "no output"),
    ],
)
def test_the_reason_is_the_line_that_says_most(output: str, said: str) -> None:
    assert reason(output) == said
