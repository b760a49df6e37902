"""Memory: what is unloaded is given back, and a large file never lies in it as a whole."""

import hashlib
import os
import time

import grpc
import psutil
import pytest

from infermesh.client import Client, Retry
from infermesh.v1 import artifact_service_pb2 as pb
from infermesh.v1.artifact_service_pb2_grpc import ArtifactServiceStub
from tests.mesh.models import ROW, samples

MIB = 1 << 20
CYCLES = 20


def tree_bytes(pid):
    """Memory of a process and all its children; what they share counts once in all."""
    process = psutil.Process(pid)
    total = 0
    for member in [process, *process.children(recursive=True)]:
        try:
            total += member.memory_full_info().pss
        except psutil.NoSuchProcess:  # a runner that has just ended
            continue
    return total


@pytest.mark.timeout(300)
def test_loading_and_unloading_leaves_nothing_behind(make_mesh, files):
    # beats come often, because each step of a cycle waits for one
    mesh = make_mesh(workers=1, flags={"scheduler": ["--heartbeat-interval", "0.2"]})
    pid = mesh.processes["worker-1"].pid
    with Client(mesh.gateway) as client:
        client.push("heavy", files.onnx(2, ballast=32 * MIB), samples=samples(2))

        def cycle():
            client.deploy("heavy", version=1)
            client.infer("heavy", {"x": ROW})
            client.undeploy("heavy")
            until = time.monotonic() + 30
            while any(worker.held for worker in client.workers()):
                assert time.monotonic() < until, "it was not unloaded"
                time.sleep(0.02)

        cycle()  # what is made once (imports, pools, connections) is made
        before = tree_bytes(pid)
        for _ in range(CYCLES):
            cycle()
        after = tree_bytes(pid)
    assert after < before * 1.1, f"{before / MIB:.1f} MiB before, {after / MIB:.1f} MiB after {CYCLES} cycles"


def random_file(path, size):
    """Writes `size` random bytes, without holding them."""
    with path.open("wb") as out:
        for _ in range(size // MIB):
            out.write(os.urandom(MIB))
    return path


@pytest.mark.timeout(300)
def test_a_gibibyte_is_uploaded_in_little_memory(make_mesh, tmp_path):
    mesh = make_mesh(workers=1)
    service = psutil.Process(mesh.processes["registry"].pid)
    file = random_file(tmp_path / "big.bin", 1024 * MIB)
    with Client(mesh.address("registry"), timeout=240) as client:
        from infermesh.client import signature

        peak = 0

        def watch(sent, total):
            nonlocal peak
            peak = max(peak, service.memory_info().rss)

        version = client.push(
            "big",
            file,
            backend="onnx",
            signature=signature({"x": ("FP32", [-1, 4])}, {"y": ("FP32", [-1, 4])}),
            progress=watch,
        )
    assert version.files[0].size_bytes == 1024 * MIB
    assert peak < 100 * MIB, f"{peak / MIB:.0f} MiB in all"
    stored = mesh.home / "artifacts"
    assert max(path.stat().st_size for path in stored.rglob("*") if path.is_file()) == 1024 * MIB


def test_an_upload_goes_on_where_it_was_cut(mesh, tmp_path):
    content = os.urandom(6 * MIB)
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    with grpc.insecure_channel(mesh.gateway) as channel:
        stub = ArtifactServiceStub(channel)
        upload = stub.StartUpload(pb.StartUploadRequest(digest=digest, size_bytes=len(content)), timeout=20)
        assert not upload.complete

        def pieces(start, end):
            for offset in range(start, end, MIB):
                data = content[offset : min(offset + MIB, end)]
                yield pb.UploadArtifactRequest(name=upload.name, offset=offset, data=data)

        half = stub.UploadArtifact(pieces(0, 3 * MIB), timeout=20)  # ends early, as a cut connection does
        assert (half.received_bytes, half.complete) == (3 * MIB, False)
        again = stub.StartUpload(pb.StartUploadRequest(digest=digest, size_bytes=len(content)), timeout=20)
        assert again.received_bytes == 3 * MIB
        upload = again
        done = stub.UploadArtifact(pieces(3 * MIB, len(content)), timeout=20)
        assert done.complete
        read = b"".join(
            piece.data for piece in stub.DownloadArtifact(pb.DownloadArtifactRequest(digest=digest), timeout=20)
        )
    assert read == content


def test_a_push_survives_the_death_of_the_registry(make_mesh, tmp_path):
    mesh = make_mesh(workers=1)
    file = random_file(tmp_path / "model.bin", 64 * MIB)
    killed = False

    def cut(sent, total):
        nonlocal killed
        if not killed and sent > total // 2:
            killed = True
            mesh.kill("registry")
            mesh.revive("registry")

    with Client(mesh.gateway, timeout=60, retry=Retry(attempts=50)) as client:
        from infermesh.client import signature

        tensors = signature({"x": ("FP32", [-1, 4])}, {"y": ("FP32", [-1, 4])})
        version = client.push("m", file, backend="onnx", signature=tensors, progress=cut)
    assert killed
    assert version.files[0].digest == "sha256:" + hashlib.sha256(file.read_bytes()).hexdigest()
