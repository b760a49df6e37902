"""A mesh that is encrypted throughout: mutual TLS between its members, TLS at its front door."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import pytest

from infermesh import errors
from infermesh.client import Client, Retry, Tls
from infermesh.testing import LocalMesh, MeshOptions
from tests.mesh.conftest import CPU
from tests.mesh.models import ROW, answer, samples
from tests.tls_files import Authority

ROOMS = ("registry", "scheduler", "worker", "gateway")


@dataclass
class Encrypted:
    """A running mesh, with the authorities of its certificates."""

    mesh: LocalMesh
    members: Authority
    front: Authority

    def client(self):
        """A client that trusts the front door's authority, and never repeats a call."""
        return Client(f"https://{self.mesh.gateway}", tls=Tls(ca=str(self.front.ca)), retry=Retry(attempts=1))

    def answers(self):
        """Tells whether the deployment answers a new client, rightly."""
        with self.client() as client:
            try:
                result = client.infer("affine", {"x": ROW}, timeout=5)
            except errors.MeshError:
                return False
        return np.array_equal(result["y"], answer(ROW, 2)["y"])


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory, files):
    folder = tmp_path_factory.mktemp("tls")
    members, front = Authority(folder / "members"), Authority(folder / "front")
    own = [word for key, path in members.issue().items() for word in (f"--tls-{key}", path)]
    pair = front.issue("front", "127.0.0.1")
    flags = {room: own for room in ROOMS}
    flags["gateway"] = [*own, "--front-tls-cert", pair["cert"], "--front-tls-key", pair["key"]]
    with LocalMesh(folder / "home", MeshOptions(**CPU, workers=1, flags=flags)) as mesh:
        running = Encrypted(mesh, members, front)
        with running.client() as client:
            client.push("affine", files.torch(2), samples=samples(2))
            client.deploy("affine", version=1)
        yield running


def test_a_model_answers_through_every_hop(encrypted):
    assert encrypted.answers()
    with urllib.request.urlopen(f"http://{encrypted.mesh.address('gateway', 'metrics')}/metrics") as page:
        assert 'model="affine"' in page.read().decode()


def test_the_command_line(encrypted):
    where = {"INFERMESH_ADDRESS": f"https://{encrypted.mesh.gateway}"}
    command = [sys.executable, "-m", "infermesh.cli", "--tls-ca", str(encrypted.front.ca), "infer", "affine"]
    done = subprocess.run(
        [*command, f"x={json.dumps(ROW.tolist())}", "-o", "json"],
        capture_output=True, text=True, check=False, env=os.environ | where,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "y" in done.stdout


@pytest.mark.parametrize("name", ["registry", "scheduler", "worker-1"])
@pytest.mark.parametrize("shown", [False, True], ids=["plaintext", "a stranger"])
def test_members_serve_members_only(encrypted, tmp_path, name, shown):
    address = encrypted.mesh.address(name)
    options = [("grpc.ssl_target_name_override", "infermesh")]
    stranger = Authority(tmp_path).issue()
    read = {key: Path(path).read_bytes() for key, path in stranger.items()}
    credentials = grpc.ssl_channel_credentials(encrypted.members.ca.read_bytes(), read["key"], read["cert"])
    channel = grpc.secure_channel(address, credentials, options) if shown else grpc.insecure_channel(address)
    with channel, pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary("/inference.GRPCInferenceService/ServerLive")(b"", timeout=10)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


def test_certificates_of_the_whole_mesh_are_renewed_while_it_runs(encrypted, tmp_path):
    encrypted.members.become(Authority(tmp_path / "members"))
    encrypted.members.issue()
    encrypted.front.become(Authority(tmp_path / "front"))
    encrypted.front.issue("front", "127.0.0.1")
    encrypted.mesh.restart("worker-1")  # all that it has is new, and what the others had before is not good enough
    until = time.monotonic() + 30
    while not encrypted.answers():
        assert time.monotonic() < until, encrypted.mesh.processes["gateway"].tail()
        time.sleep(0.1)
