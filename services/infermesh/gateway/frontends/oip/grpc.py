"""`inference.GRPCInferenceService`: the protocol's gRPC form."""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from importlib.metadata import version
from typing import Final

from starlette.routing import BaseRoute

from infermesh.errors import MeshError, Unsupported
from infermesh.gateway.framing.methods import Context, Method, Methods, Reply, Running, unary
from infermesh.gateway.frontends.base import Parts
from infermesh.gateway.frontends.oip import describe
from infermesh.gateway.frontends.oip.calls import make_call
from infermesh.gateway.frontends.oip.repository import Repository
from infermesh.gateway.frontends.oip.statistics import Statistics
from infermesh.gateway.frontends.oip.stream import InferStreams
from infermesh.gateway.frontends.oip.wire import scan
from infermesh.mesh.wire import Bytes
from infermesh.oip.v2 import grpc_service_pb2 as pb

_NO_TRACE: Final = ("", "")
SERVICE: Final = "/inference.GRPCInferenceService"
_REFUSED: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        (f"{kind}SharedMemory{verb}" for kind in ("System", "Cuda") for verb in ("Status", "Register", "Unregister")),
        "shared memory is not served: the workers are other machines; send tensors in raw_input_contents",
    ),
    "TraceSetting": "trace settings are not served here: traces follow the caller's traceparent and the configuration",
    "LogSettings": "log settings are not served here: they are part of each process' configuration",
}


class OipGrpcFrontend:
    """Every method of the service."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._dispatcher = parts.core.dispatcher
        self._routes = parts.core.routes
        self._repository = Repository(parts.core.routes, parts.registry)
        self._statistics = Statistics(parts.core.routes, parts.workers, parts.core.stats)
        self._streams = InferStreams(parts.core.dispatcher)
        parts.on_close(self._streams.close)

    def methods(self) -> Methods:
        """Returns the methods; those that are not served say why."""
        served = {
            "ModelInfer": Method(self._infer, keeps_deadline=True, direct=self._begin),  # the dispatcher does
            "ModelStreamInfer": Method(self._streams.begin, client_stream=True, server_stream=True, pushes=True),
            "ServerLive": unary(pb.ServerLiveRequest, self._live),
            "ServerReady": unary(pb.ServerReadyRequest, self._ready),
            "ServerMetadata": unary(pb.ServerMetadataRequest, self._server_metadata),
            "ModelReady": unary(pb.ModelReadyRequest, self._model_ready),
            "ModelMetadata": unary(pb.ModelMetadataRequest, self._model_metadata),
            "ModelConfig": unary(pb.ModelConfigRequest, self._model_config),
            "ModelStatistics": unary(pb.ModelStatisticsRequest, self._model_statistics),
            "RepositoryIndex": unary(pb.RepositoryIndexRequest, self._index),
            "RepositoryModelLoad": unary(pb.RepositoryModelLoadRequest, self._load),
            "RepositoryModelUnload": unary(pb.RepositoryModelUnloadRequest, self._unload),
        }
        refused = {name: Method(_Refusal(why), client_stream=True) for name, why in _REFUSED.items()}
        return {f"{SERVICE}/{name}": method for name, method in (served | refused).items()}

    def routes(self) -> Sequence[BaseRoute]:
        """Returns nothing: `rest` has them."""
        return ()

    def _infer(self, data: bytes, context: Context) -> Awaitable[Bytes]:
        known = context.known
        trace = ("", "")
        if b"traceparent" in known:
            trace = (context.header(b"traceparent"), context.header(b"tracestate"))
        now = asyncio.get_running_loop().time()
        return self._dispatcher.infer(make_call(scan(data), data, now, context.deadline, trace))

    def _begin(self, data: bytes, reply: Reply) -> Running:
        known = reply.known
        trace = _NO_TRACE
        if b"traceparent" in known:
            trace = (known[b"traceparent"].decode("latin-1"), known.get(b"tracestate", b"").decode("latin-1"))
        head = scan(data)
        now = asyncio.get_running_loop().time() if head.parameters else 0.0  # the clock costs a system call
        return self._dispatcher.submit(make_call(head, data, now, reply.deadline, trace), reply)

    async def _live(self, request: pb.ServerLiveRequest, context: Context) -> pb.ServerLiveResponse:
        return pb.ServerLiveResponse(live=True)

    async def _ready(self, request: pb.ServerReadyRequest, context: Context) -> pb.ServerReadyResponse:
        return pb.ServerReadyResponse(ready=self._parts.health.serving())

    async def _server_metadata(self, request: pb.ServerMetadataRequest, context: Context) -> pb.ServerMetadataResponse:
        return pb.ServerMetadataResponse(
            name=describe.SERVER, version=version("infermesh"), extensions=describe.EXTENSIONS
        )

    async def _model_ready(self, request: pb.ModelReadyRequest, context: Context) -> pb.ModelReadyResponse:
        try:
            self._routes.version(request.name, request.version)
        except MeshError:
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=True)

    async def _model_metadata(self, request: pb.ModelMetadataRequest, context: Context) -> pb.ModelMetadataResponse:
        found = self._routes.description(request.name, request.version)
        return describe.metadata(self._routes.deployment(request.name), found)

    async def _model_config(self, request: pb.ModelConfigRequest, context: Context) -> pb.ModelConfigResponse:
        found = self._routes.description(request.name, request.version)
        return pb.ModelConfigResponse(config=describe.model_config(self._routes.deployment(request.name), found))

    async def _model_statistics(
        self, request: pb.ModelStatisticsRequest, context: Context
    ) -> pb.ModelStatisticsResponse:
        return await self._statistics.collect(request.name, request.version, context.time_left())

    async def _index(self, request: pb.RepositoryIndexRequest, context: Context) -> pb.RepositoryIndexResponse:
        return await self._repository.index(only_ready=request.ready)

    async def _load(self, request: pb.RepositoryModelLoadRequest, context: Context) -> pb.RepositoryModelLoadResponse:
        if request.parameters:
            raise Unsupported("load: files and configuration come from the registry; push a version instead")
        model = request.model_name or request.repository_name  # KServe's form has the model's name in field 1
        await self._repository.load(model, context.time_left())
        return pb.RepositoryModelLoadResponse(model_name=model, is_loaded=True)

    async def _unload(
        self, request: pb.RepositoryModelUnloadRequest, context: Context
    ) -> pb.RepositoryModelUnloadResponse:
        model = request.model_name or request.repository_name
        await self._repository.unload(model, context.time_left())
        return pb.RepositoryModelUnloadResponse(model_name=model, is_unloaded=True)


class _Refusal:
    """The handler of a method that is not served."""

    def __init__(self, why: str) -> None:
        self._why = why

    async def __call__(self, request: object, context: Context, /) -> bytes:
        raise Unsupported(self._why)
