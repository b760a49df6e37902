"""Large files through the front door: neither direction is held in memory, whoever is slow."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import grpc.aio
import psutil
import pytest

from infermesh.mesh import server as mesh_server
from infermesh.v1 import artifact_service_pb2 as artifacts

pytestmark = pytest.mark.mesh
_MIB = 1 << 20
_SIZE = 192
_ALLOWED = 100


class Registry(grpc.GenericRpcHandler):
    """Takes and gives files; slow in the beginning."""

    def service(self, details):
        if details.method.endswith("/UploadArtifact"):
            return grpc.stream_unary_rpc_method_handler(self._upload)
        if details.method.endswith("/DownloadArtifact"):
            return grpc.unary_stream_rpc_method_handler(self._download)
        return None

    async def _upload(self, requests, context):
        received = 0
        async for request in requests:
            received += len(artifacts.UploadArtifactRequest.FromString(request).data)
            if received < 32 * _MIB:
                await asyncio.sleep(0.01)
        return artifacts.Upload(received_bytes=received).SerializeToString()

    async def _download(self, request, context):
        for _ in range(_SIZE):
            yield artifacts.DownloadArtifactResponse(data=bytes(_MIB)).SerializeToString()


class Peak:
    """The most memory that a process takes."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._base = self._most = self._process.memory_info().rss

    async def watch(self) -> None:
        while True:
            self._most = max(self._most, self._process.memory_info().rss)
            await asyncio.sleep(0.02)

    @property
    def growth(self) -> int:
        """In MiB."""
        return (self._most - self._base) // _MIB


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[tuple[str, Peak]]:
    """Address of a gateway before a registry, and the memory of its Envoy."""
    server = mesh_server.create_server()
    server.add_generic_rpc_handlers((Registry(),))
    registry = await mesh_server.bind(server, "127.0.0.1:0")
    ready = tmp_path / "ready.json"
    command = [sys.executable, "-m", "infermesh.gateway", "--ready-file", str(ready), "--registry", registry]
    command += ["--scheduler", "127.0.0.1:1", "--log-level", "error"]
    process = await asyncio.to_thread(subprocess.Popen, command)
    while not ready.exists() and process.poll() is None:  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    (front,) = psutil.Process(process.pid).children()
    peak = Peak(front.pid)
    watching = asyncio.create_task(peak.watch())
    yield json.loads(ready.read_text())["addresses"]["grpc"], peak
    watching.cancel()
    process.terminate()
    await asyncio.to_thread(process.wait)
    await server.stop(0)


async def test_a_file_goes_up_before_a_slow_registry(gateway: tuple[str, Peak]) -> None:
    address, peak = gateway
    part = artifacts.UploadArtifactRequest(data=bytes(_MIB)).SerializeToString()

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(_SIZE):
            yield part

    async with grpc.aio.insecure_channel(address) as channel:
        call = channel.stream_unary("/infermesh.v1.ArtifactService/UploadArtifact")
        answer = artifacts.Upload.FromString(await call(parts()))
    assert answer.received_bytes == _SIZE * _MIB
    assert peak.growth < _ALLOWED


async def test_a_file_comes_down_to_a_slow_client(gateway: tuple[str, Peak]) -> None:
    address, peak = gateway
    received = 0
    async with grpc.aio.insecure_channel(address) as channel:
        call = channel.unary_stream("/infermesh.v1.ArtifactService/DownloadArtifact")
        async for response in call(b""):
            received += len(artifacts.DownloadArtifactResponse.FromString(response).data)
            if received < 32 * _MIB:
                await asyncio.sleep(0.01)
    assert received == _SIZE * _MIB
    assert peak.growth < _ALLOWED
