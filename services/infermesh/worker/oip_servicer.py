"""`inference.GRPCInferenceService` served by the worker itself: for clients, tests and operators that talk to
one worker directly. The model's name is the deployment id, as at the gateway."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.metadata import version as installed_version
from math import inf
from typing import Any, Final

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from infermesh.errors import DeadlineExceeded, InvalidInput, MeshError, Unsupported
from infermesh.mesh.clock import Clock
from infermesh.mesh.parcel import joined
from infermesh.names import is_version
from infermesh.oip.v2 import grpc_service_pb2 as oip
from infermesh.worker import descriptions
from infermesh.worker.calls import Call
from infermesh.worker.models import ONLY_STREAMED, HeldModel
from infermesh.worker.oip_stream import InferStream
from infermesh.worker.serving import Serving

SERVICE: Final = "inference.GRPCInferenceService"
_EXTENSIONS: Final = ("classification", "parameters", "statistics", "binary_tensor_data", "model_configuration")


class InferenceServicer:
    """Answers the protocol for what this worker holds ready."""

    def __init__(self, serving: Serving, clock: Clock) -> None:
        self._serving, self._clock = serving, clock

    async def ServerLive(self, request: oip.ServerLiveRequest, context: Any) -> oip.ServerLiveResponse:
        """Says that the process runs."""
        return oip.ServerLiveResponse(live=True)

    async def ServerReady(self, request: oip.ServerReadyRequest, context: Any) -> oip.ServerReadyResponse:
        """Says whether something can be asked here: some version is ready and the worker is not stopping."""
        ready = not self._serving.draining and any(model.ready for model in self._serving)
        return oip.ServerReadyResponse(ready=ready)

    async def ServerMetadata(self, request: oip.ServerMetadataRequest, context: Any) -> oip.ServerMetadataResponse:
        """Names the server."""
        return oip.ServerMetadataResponse(
            name="infermesh-worker", version=installed_version("infermesh"), extensions=_EXTENSIONS
        )

    async def ModelReady(self, request: oip.ModelReadyRequest, context: Any) -> oip.ModelReadyResponse:
        """Says whether a model is ready here; false for an unknown one."""
        try:
            self._find(request.name, request.version)
        except MeshError:
            return oip.ModelReadyResponse(ready=False)
        return oip.ModelReadyResponse(ready=True)

    async def ModelMetadata(self, request: oip.ModelMetadataRequest, context: Any) -> oip.ModelMetadataResponse:
        """Describes a model by its signature."""
        return descriptions.metadata(self._find(request.name, request.version))

    async def ModelConfig(self, request: oip.ModelConfigRequest, context: Any) -> oip.ModelConfigResponse:
        """Describes a model as a Triton configuration."""
        return descriptions.configuration(self._find(request.name, request.version))

    async def ModelStatistics(self, request: oip.ModelStatisticsRequest, context: Any) -> oip.ModelStatisticsResponse:
        """Returns the counters of one model's versions, or of everything that is held."""
        if request.name:
            self._find(request.name, request.version)
        held = [
            model
            for model in self._serving
            if request.name in ("", model.deployment) and request.version in ("", model.number)
        ]
        return oip.ModelStatisticsResponse(
            model_stats=[model.statistics.message(model.deployment, model.number) for model in held]
        )

    async def ModelInfer(self, payload: bytes, context: Any) -> bytes:
        """Runs one request; takes and returns serialised messages."""
        answer: asyncio.Future[Call] = asyncio.get_running_loop().create_future()
        model, call = self._submit(payload, context, answer.set_result)
        try:
            await answer
        except asyncio.CancelledError:
            model.cancel(call)  # the caller went away, or its deadline passed
            raise
        if call.error is not None:
            raise call.error
        return joined(call.response)

    async def ModelStreamInfer(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        """Runs many requests, each with any number of responses; takes and yields serialised messages."""
        wish = dict(context.invocation_metadata() or ()).get("triton_grpc_error", "")
        stream = InferStream(
            lambda payload, stream: self._submit(payload, context, stream.finish, stream.emit),
            as_status=str(wish).lower() == "true",
        )
        async with contextlib.aclosing(stream.run(requests)) as messages:
            async for message in messages:
                yield message

    def _submit(
        self,
        payload: bytes,
        context: Any,
        finish: Callable[[Call], None],
        emit: Callable[[Call, bytes], None] | None = None,
    ) -> tuple[HeldModel, Call]:
        """Begins a call. Raises what its request is refused with."""
        try:
            message = oip.ModelInferRequest.FromString(payload)
        except DecodeError as error:
            raise InvalidInput("request: expected a serialised ModelInferRequest, got bytes that are none") from error
        model = self._find(message.model_name, message.model_version)
        if model.decoupled and emit is None:
            raise Unsupported(f"model '{model.deployment}': {ONLY_STREAMED}")
        try:
            request = model.codec.read(message)
        except MeshError as error:
            model.refused(error)
            raise
        now = self._clock.time()
        left = min(_time_left(context), inf if request.wishes.timeout is None else request.wishes.timeout)
        if left <= 0:
            raise DeadlineExceeded("deadline passed before the call was read")
        late = now + left
        call = Call(request, finish, None, False, request.rows, request.group, now, late, emit=emit, payload=payload)
        model.submit(call, request.wishes.priority)
        return model, call

    def _find(self, deployment: str, version: str) -> HeldModel:
        if version and not is_version(version):
            raise InvalidInput(f"model_version: a worker knows numbers only, got {version[:100]!r}: ask a gateway")
        return self._serving.find(deployment, version)


def _time_left(context: Any) -> float:
    left = context.time_remaining()
    return inf if left is None else float(left)


def add_to_server(servicer: InferenceServicer, server: grpc.aio.Server) -> None:
    """Registers the service under the protocol's own name."""

    def handler(method: Callable[..., Awaitable[Any]], request: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(
            method, request_deserializer=request.FromString, response_serializer=lambda m: m.SerializeToString()
        )

    handlers = {
        "ServerLive": handler(servicer.ServerLive, oip.ServerLiveRequest),
        "ServerReady": handler(servicer.ServerReady, oip.ServerReadyRequest),
        "ServerMetadata": handler(servicer.ServerMetadata, oip.ServerMetadataRequest),
        "ModelReady": handler(servicer.ModelReady, oip.ModelReadyRequest),
        "ModelMetadata": handler(servicer.ModelMetadata, oip.ModelMetadataRequest),
        "ModelConfig": handler(servicer.ModelConfig, oip.ModelConfigRequest),
        "ModelStatistics": handler(servicer.ModelStatistics, oip.ModelStatisticsRequest),
        "ModelInfer": grpc.unary_unary_rpc_method_handler(servicer.ModelInfer),  # bytes in, bytes out
        "ModelStreamInfer": grpc.stream_stream_rpc_method_handler(servicer.ModelStreamInfer),  # likewise
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
