"""What worker tests share: versions, requests, a runner that computes in the test's hands."""

import asyncio
import struct
from collections.abc import Sequence
from math import inf
from typing import Any

from prometheus_client import CollectorRegistry

from infermesh.errors import WorkerLost
from infermesh.mesh.parcel import pieces
from infermesh.oip.v2 import grpc_service_pb2 as oip
from infermesh.v1 import model_pb2, worker_service_pb2
from infermesh.worker.calls import Call
from infermesh.worker.frames import Buffer, Output
from infermesh.worker.measures import Measures
from infermesh.worker.models import HeldModel
from infermesh.worker.runner import LoadReport, RunResult
from infermesh.worker.streams import GatewayStream

DIGEST = "sha256:" + "a" * 64


def version_of(
    inputs: Sequence[tuple[str, str, Sequence[int]]] = (("x", "FP32", (-1, 2)),),
    outputs: Sequence[tuple[str, str, Sequence[int]]] = (("y", "FP32", (-1, 2)),),
    max_batch_size: int = 8,
) -> model_pb2.ModelVersion:
    """Returns a version with this signature; by default rows of two floats in and out."""
    version = model_pb2.ModelVersion(name="models/m/versions/1", digest=DIGEST, backend="fake")
    version.max_batch_size = max_batch_size
    for name, datatype, shape in inputs:
        version.signature.inputs.add(name=name, datatype=datatype, shape=shape)
    for name, datatype, shape in outputs:
        version.signature.outputs.add(name=name, datatype=datatype, shape=shape)
    return version


def floats(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def request_of(rows: int = 1, value: float = 1.0, id: str = "", **fields: Any) -> oip.ModelInferRequest:
    """Returns a good request for the default version; every element is `value`."""
    request = oip.ModelInferRequest(model_name="d", id=id, **fields)
    request.inputs.add(name="x", datatype="FP32", shape=[rows, 2])
    request.raw_input_contents.append(floats(*[value] * (2 * rows)))
    return request


def values_of(response: bytes) -> list[float]:
    """Returns the floats of a response's first output."""
    raw = oip.ModelInferResponse.FromString(response).raw_output_contents[0]
    return list(struct.unpack(f"<{len(raw) // 4}f", raw))


class FakeRunner:
    """A runner that keeps each batch until the test answers it; `echo` answers by itself, in the next turn."""

    def __init__(self, echo: bool = False, times: tuple[tuple[int, float], ...] = (), memory: int = 0) -> None:
        self.report = LoadReport(memory, times)
        self.died: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.runs: list[tuple[list[Buffer], tuple[str, ...], asyncio.Future[RunResult]]] = []
        self.closed = False
        self._echo = echo

    def run(self, inputs: Sequence[Buffer], outputs: Sequence[str] = ()) -> asyncio.Future[RunResult]:
        future: asyncio.Future[RunResult] = asyncio.get_running_loop().create_future()
        self.runs.append((list(inputs), tuple(outputs), future))
        if self._echo:
            future.set_result(self.result(-1))
        return future

    def result(self, at: int, compute_us: int = 10) -> RunResult:
        """Returns what an identity model would give for a run."""
        buffer = self.runs[at][0][0]
        data = memoryview(b"".join(buffer.parts))
        return RunResult([Output("y", buffer.datatype, tuple(buffer.shape), data)], compute_us)

    def answer(self, at: int) -> None:
        self.runs[at][2].set_result(self.result(at))

    def fail(self, at: int, error: Exception) -> None:
        self.runs[at][2].set_exception(error)

    def rows(self, at: int) -> int:
        return self.runs[at][0][0].shape[0]

    async def close(self) -> None:
        self.closed = True
        self.died.cancel()
        for _, _, future in self.runs:
            if not future.done():
                future.set_exception(WorkerLost("the runner was closed"))


class Clock:
    """Time that a test sets."""

    def __init__(self, now: float = 100.0) -> None:
        self.now = now

    def time(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)


def measures() -> Measures:
    return Measures(CollectorRegistry())


def held(clock: Any, version: model_pb2.ModelVersion | None = None, **kwargs: Any) -> HeldModel:
    """Returns a held model `d/1` without a runner."""
    return HeldModel("d", "1", version or version_of(), clock, measures().of("d", "1"), **kwargs)


def call_of(
    model: HeldModel, now: float, rows: int = 1, value: float = 1.0, deadline: float = inf, **fields: Any
) -> tuple[Call, asyncio.Future[Call]]:
    """Returns a call of the default version, and the future of its end."""
    answer: asyncio.Future[Call] = asyncio.get_running_loop().create_future()
    request = model.codec.read(request_of(rows, value, **fields))
    return Call(request, answer.set_result, None, False, request.rows, request.group, now, deadline), answer


def said(stream: GatewayStream) -> worker_service_pb2.ResultBundle | None:
    """Returns what a stream sends next, as the gateway reads it; None if that is nothing."""
    parcel = stream.parcel()
    return None if parcel is None else worker_service_pb2.ResultBundle.FromString(b"".join(pieces(parcel)))


async def turns(count: int = 5) -> None:
    """Lets the event loop run what is due."""
    for _ in range(count):
        await asyncio.sleep(0)
