"""What a worker process needs around it in tests: a scheduler and a registry in the test's own hands, and its life."""

import asyncio
import hashlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc.aio

from infermesh.errors import NotFound
from infermesh.mesh.server import bind, create_server
from infermesh.v1 import (
    artifact_service_pb2,
    artifact_service_pb2_grpc,
    model_pb2,
    model_service_pb2,
    model_service_pb2_grpc,
    scheduler_service_pb2,
    scheduler_service_pb2_grpc,
    worker_pb2,
)

MODEL = """
import os, time
import numpy as np

class Model:
    def infer(self, inputs):
        x = inputs["x"]
        if np.isnan(x).any():
            raise ValueError("NaN is not welcome")
        first = float(x[0, 0])
        if first == -1:
            os._exit(9)
        if first < -1:
            time.sleep(-first / 10)
        return {"y": x * 2}
"""


class FakeScheduler(scheduler_service_pb2_grpc.SchedulerServiceServicer):
    """Wants what the test says; remembers what the worker told."""

    def __init__(self) -> None:
        self.wanted: list[worker_pb2.Assignment] = []
        self.authoritative = True
        self.heard: list[scheduler_service_pb2.HeartbeatRequest] = []
        self._news = asyncio.Event()

    async def Heartbeat(
        self, request: scheduler_service_pb2.HeartbeatRequest, context: Any
    ) -> scheduler_service_pb2.HeartbeatResponse:
        self.heard.append(request)
        self._news.set()
        self._news = asyncio.Event()
        response = scheduler_service_pb2.HeartbeatResponse(assignments=self.wanted, authoritative=self.authoritative)
        response.interval.FromMilliseconds(100)
        return response

    async def until(self, seen: Callable[[worker_pb2.Worker], bool]) -> worker_pb2.Worker:
        """Waits for a heartbeat that shows it."""
        async with asyncio.timeout(60):
            while not (self.heard and seen(self.heard[-1].worker)):
                await self._news.wait()
        return self.heard[-1].worker


class FakeRegistry(model_service_pb2_grpc.ModelServiceServicer, artifact_service_pb2_grpc.ArtifactServiceServicer):
    """Versions and files in memory; counts the downloads."""

    def __init__(self) -> None:
        self.versions: dict[str, model_pb2.ModelVersion] = {}
        self.files: dict[str, bytes] = {}
        self.downloads: list[str] = []

    def add(self, version: model_pb2.ModelVersion, files: dict[str, bytes]) -> model_pb2.ModelVersion:
        """Stores a version with its files, and gives it a digest."""
        for path, data in files.items():
            digest = "sha256:" + hashlib.sha256(data).hexdigest()
            self.files[digest] = data
            version.files.add(path=path, digest=digest, size_bytes=len(data))
        version.digest = "sha256:" + hashlib.sha256(version.SerializeToString(deterministic=True)).hexdigest()
        self.versions[version.name] = version
        return version

    async def GetModelVersion(
        self, request: model_service_pb2.GetModelVersionRequest, context: Any
    ) -> model_pb2.ModelVersion:
        if request.name not in self.versions:
            raise NotFound.of("version", request.name)
        return self.versions[request.name]

    async def DownloadArtifact(
        self, request: artifact_service_pb2.DownloadArtifactRequest, context: Any
    ) -> AsyncIterator[artifact_service_pb2.DownloadArtifactResponse]:
        self.downloads.append(request.digest)
        data = self.files[request.digest][request.offset :]
        for at in range(0, len(data), 1000):
            yield artifact_service_pb2.DownloadArtifactResponse(data=data[at : at + 1000])


class Surroundings:
    """Scheduler and registry on one server, and the workers that were started against them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.scheduler, self.registry = FakeScheduler(), FakeRegistry()
        self._server = create_server()
        self.address = "127.0.0.1:0"
        self.workers: list[WorkerProcess] = []

    async def __aenter__(self) -> "Surroundings":
        await self.open()
        return self

    async def __aexit__(self, *exc: object) -> None:
        for worker in self.workers:
            await worker.kill()
        await self.close()

    async def open(self) -> None:
        """Brings scheduler and registry up, at the same address as before."""
        self._server = create_server()
        scheduler_service_pb2_grpc.add_SchedulerServiceServicer_to_server(self.scheduler, self._server)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(self.registry, self._server)
        artifact_service_pb2_grpc.add_ArtifactServiceServicer_to_server(self.registry, self._server)
        self.address = await bind(self._server, self.address)

    async def close(self) -> None:
        """Takes scheduler and registry down."""
        await self._server.stop(0)

    async def worker(self, *flags: str) -> "WorkerProcess":
        """Starts a worker and waits until it says that it serves."""
        worker = WorkerProcess(self.folder / f"worker{len(self.workers)}")
        self.workers.append(worker)
        await worker.start("--scheduler", self.address, "--registry", self.address, *flags)
        return worker

    def doubler(self, number: int = 1, **fields: Any) -> worker_pb2.Assignment:
        """Stores a version of the test's model and returns its assignment to the deployment `d`."""
        version = model_pb2.ModelVersion(name=f"models/m/versions/{number}", backend="python", max_batch_size=8)
        version.signature.inputs.add(name="x", datatype="FP32", shape=[-1, 2])
        version.signature.outputs.add(name="y", datatype="FP32", shape=[-1, 2])
        version.MergeFrom(model_pb2.ModelVersion(**fields))
        self.registry.add(version, {"model.py": MODEL.encode()})
        return worker_pb2.Assignment(deployment="d", version=version.name, digest=version.digest)


class WorkerProcess:
    """A real worker process."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.ready_file = folder / "ready.json"
        self.addresses: dict[str, str] = {}
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, *flags: str) -> None:
        """Starts the process and waits for its ready file."""
        ready = self.ready_file
        log = (self.folder / "log").open("ab")
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "infermesh.worker",
            "--ready-file", str(ready), "--cache", str(self.folder / "cache"),
            "--device", "cpu", "--allow-python", *flags,
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        log.close()
        async with asyncio.timeout(60):
            while not ready.exists():
                assert self._process.returncode is None, self.log()
                await asyncio.sleep(0.02)
        self.addresses = json.loads(ready.read_text())["addresses"]

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def channel(self, kind: str = "grpc") -> grpc.aio.Channel:
        """Returns a channel to one of its servers."""
        return grpc.aio.insecure_channel(self.addresses[kind])

    def terminate(self) -> None:
        """Sends SIGTERM."""
        os.kill(self.pid, signal.SIGTERM)

    async def exit_code(self) -> int:
        """Waits for the end of the process."""
        assert self._process is not None
        async with asyncio.timeout(60):
            return await self._process.wait()

    async def kill(self) -> None:
        """Ends the process and whatever it started."""
        assert self._process is not None
        if self._process.returncode is None:
            os.killpg(self.pid, signal.SIGKILL)
        await self._process.wait()

    def log(self) -> str:
        """Returns what it wrote."""
        return (self.folder / "log").read_text()


def ready(worker: worker_pb2.Worker) -> bool:
    """Tells whether everything that a worker holds is ready, and that is something."""
    return bool(worker.held) and all(one.state == worker_pb2.HeldVersion.READY for one in worker.held)
