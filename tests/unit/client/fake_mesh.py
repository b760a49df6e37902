"""A gateway in one process for tests of the client: the real service definitions over dictionaries."""

import asyncio
import hashlib
import itertools
from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import empty_pb2

from infermesh import errors, names, tensors
from infermesh.mesh import server as mesh_server
from infermesh.mesh.status import to_status
from infermesh.oip.v2 import grpc_service_pb2 as oip
from infermesh.v1 import (
    artifact_service_pb2,
    artifact_service_pb2_grpc,
    deployment_pb2,
    deployment_service_pb2,
    deployment_service_pb2_grpc,
    model_pb2,
    model_service_pb2,
    model_service_pb2_grpc,
    scheduler_service_pb2,
    scheduler_service_pb2_grpc,
    worker_pb2,
)


class Artifacts(artifact_service_pb2_grpc.ArtifactServiceServicer):
    """Uploads in memory. `cuts` holds byte counts after which a stream breaks, each once."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.partial: dict[str, bytearray] = {}
        self.wanted: dict[str, tuple[str, int]] = {}
        self.cuts: list[int] = []
        self.cut_error: errors.MeshError = errors.NotReady("the stream was cut")
        self.lost_after_cut = 0
        self.received = 0
        self.streams: list[int] = []
        self.swallow = False

    async def StartUpload(self, request: Any, context: Any) -> Any:
        name = "uploads/" + request.digest[-12:]
        self.partial.setdefault(name, bytearray())
        self.wanted[name] = (request.digest, request.size_bytes)
        return self._state(name)

    async def GetUpload(self, request: Any, context: Any) -> Any:
        return self._state(request.name)

    async def UploadArtifact(self, request_iterator: AsyncIterator[Any], context: Any) -> Any:
        cut = self.cuts.pop(0) if self.cuts else None
        name, taken = "", 0
        async for request in request_iterator:
            if not name:
                name = request.name
                self.streams.append(request.offset)
            data = self.partial[name]
            if request.offset != len(data):
                raise errors.OutOfRange(f"offset: expected {len(data)}, got {request.offset}")
            if not self.swallow:
                data += request.data
            taken += len(request.data)
            self.received += len(request.data)
            if cut is not None and taken >= cut:
                del data[len(data) - self.lost_after_cut :]
                raise self.cut_error
        digest, size = self.wanted[name]
        if len(data) == size:
            if "sha256:" + hashlib.sha256(data).hexdigest() != digest:
                raise errors.DataLoss("digest of the upload: not the one announced")
            self.files[digest] = bytes(data)
        return self._state(name)

    def _state(self, name: str) -> Any:
        if name not in self.wanted:
            raise errors.NotFound.of("upload", name)
        digest, size = self.wanted[name]
        complete = digest in self.files
        return artifact_service_pb2.Upload(
            name=name,
            digest=digest,
            size_bytes=size,
            received_bytes=size if complete else len(self.partial[name]),
            complete=complete,
        )


class Models(model_service_pb2_grpc.ModelServiceServicer):
    """Models, versions and aliases in memory; pages of two items."""

    def __init__(self) -> None:
        self.models: dict[str, model_pb2.Model] = {}
        self.versions: dict[str, model_pb2.ModelVersion] = {}
        self.aliases: dict[str, model_pb2.Alias] = {}
        self.request_ids: list[str] = []
        self.failures: list[errors.MeshError] = []
        self.calls = 0

    async def CreateModelVersion(self, request: Any, context: Any) -> Any:
        self.request_ids.append(request.request_id)
        self._fail()
        if request.parent not in self.models:
            if not request.create_model:
                raise errors.NotFound.of("model", request.parent)
            self.models[request.parent] = model_pb2.Model(name=request.parent)
        model = self.models[request.parent]
        model.latest_version += 1
        version = model_pb2.ModelVersion()
        version.CopyFrom(request.version)
        version.name = f"{request.parent}/versions/{model.latest_version}"
        version.digest = "sha256:" + "0" * 64
        self.versions[version.name] = version
        return version

    async def GetModel(self, request: Any, context: Any) -> Any:
        self.calls += 1
        self._fail()
        return _get(self.models, "model", request.name)

    async def ListModels(self, request: Any, context: Any) -> Any:
        wanted = [m for n, m in sorted(self.models.items()) if n.startswith("models/" + request.id_prefix)]
        items, token = _page(wanted, request)
        return model_service_pb2.ListModelsResponse(models=items, next_page_token=token)

    async def DeleteModel(self, request: Any, context: Any) -> Any:
        _get(self.models, "model", request.name)
        del self.models[request.name]
        return empty_pb2.Empty()

    async def GetModelVersion(self, request: Any, context: Any) -> Any:
        parent, _, version = request.name.rpartition("/versions/")
        if version == "latest":
            version = str(_get(self.models, "model", parent).latest_version)
        elif not version.isdigit():
            version = _get(self.aliases, "alias", f"{parent}/aliases/{version}").version.rpartition("/")[2]
        return _get(self.versions, "model version", f"{parent}/versions/{version}")

    async def ListModelVersions(self, request: Any, context: Any) -> Any:
        _get(self.models, "model", request.parent)
        wanted = [v for n, v in reversed(self.versions.items()) if n.startswith(request.parent + "/")]
        items, token = _page(wanted, request)
        return model_service_pb2.ListModelVersionsResponse(versions=items, next_page_token=token)

    async def DeleteModelVersion(self, request: Any, context: Any) -> Any:
        _get(self.versions, "model version", request.name)
        if any(alias.version == request.name for alias in self.aliases.values()):
            raise errors.FailedPrecondition(f"{request.name} has an alias")
        del self.versions[request.name]
        return empty_pb2.Empty()

    async def SetAlias(self, request: Any, context: Any) -> Any:
        _get(self.versions, "model version", request.version)
        now = self.aliases[request.name].version if request.name in self.aliases else "none"
        if request.expected_version and request.expected_version != now:
            raise errors.Conflict(f"alias {request.name}: expected {request.expected_version}, it is {now}")
        self.aliases[request.name] = model_pb2.Alias(name=request.name, version=request.version)
        return self.aliases[request.name]

    async def GetAlias(self, request: Any, context: Any) -> Any:
        return _get(self.aliases, "alias", request.name)

    async def ListAliases(self, request: Any, context: Any) -> Any:
        wanted = [a for n, a in sorted(self.aliases.items()) if n.startswith(request.parent + "/")]
        items, token = _page(wanted, request)
        return model_service_pb2.ListAliasesResponse(aliases=items, next_page_token=token)

    async def DeleteAlias(self, request: Any, context: Any) -> Any:
        _get(self.aliases, "alias", request.name)
        del self.aliases[request.name]
        return empty_pb2.Empty()

    def _fail(self) -> None:
        if self.failures:
            raise self.failures.pop(0)


class Deployments(deployment_service_pb2_grpc.DeploymentServiceServicer):
    """Deployments in memory. An operation is done after `waits` waits, with `failure` if that is set."""

    def __init__(self) -> None:
        self.deployments: dict[str, deployment_pb2.Deployment] = {}
        self.operations: dict[str, operations_pb2.Operation] = {}
        self.masks: list[list[str]] = []
        self.waits = 1
        self.failure: errors.MeshError | None = None
        self.wait_failures: list[errors.MeshError] = []
        self.hide_once: set[str] = set()

    async def CreateDeployment(self, request: Any, context: Any) -> Any:
        name = names.deployment_name(request.deployment_id)
        if name in self.deployments:
            raise errors.AlreadyExists(f"deployment '{request.deployment_id}' exists")
        deployment = deployment_pb2.Deployment()
        deployment.CopyFrom(request.deployment)
        deployment.name = name
        self.deployments[name] = deployment
        return self._begin(deployment)

    async def UpdateDeployment(self, request: Any, context: Any) -> Any:
        deployment = _get(self.deployments, "deployment", request.deployment.name)
        paths = list(request.update_mask.paths)
        self.masks.append(paths)
        for path in paths:
            deployment.ClearField(path)
        patch = deployment_pb2.Deployment()
        request.update_mask.MergeMessage(request.deployment, patch)
        deployment.MergeFrom(patch)
        return self._begin(deployment)

    async def GetDeployment(self, request: Any, context: Any) -> Any:
        if request.name in self.hide_once:
            self.hide_once.remove(request.name)
            raise errors.NotFound.of("deployment", request.name)
        return _get(self.deployments, "deployment", request.name)

    async def ListDeployments(self, request: Any, context: Any) -> Any:
        wanted = [d for _, d in sorted(self.deployments.items()) if request.model in ("", d.model)]
        items, token = _page(wanted, request)
        return deployment_service_pb2.ListDeploymentsResponse(deployments=items, next_page_token=token)

    async def DeleteDeployment(self, request: Any, context: Any) -> Any:
        _get(self.deployments, "deployment", request.name)
        del self.deployments[request.name]
        return empty_pb2.Empty()

    def _begin(self, deployment: Any) -> Any:
        deployment.generation += 1
        deployment.state = deployment_pb2.Deployment.DEPLOYING
        operation = operations_pb2.Operation(name=f"operations/{len(self.operations) + 1}")
        self._describe(operation, deployment, loading=1)
        self.operations[operation.name] = operation
        self._waits_left = self.waits
        if not self.waits:
            self._end(operation, deployment)
        return operation

    def wait(self, name: str) -> Any:
        if self.wait_failures:
            raise self.wait_failures.pop(0)
        operation = _get(self.operations, "operation", name)
        self._waits_left -= 1
        metadata = deployment_pb2.DeploymentOperationMetadata()
        operation.metadata.Unpack(metadata)
        if self._waits_left <= 0:
            self._end(operation, self.deployments[metadata.deployment])
        return operation

    def _end(self, operation: Any, deployment: Any) -> None:
        operation.done = True
        self._describe(operation, deployment, loading=0)
        if self.failure is not None:
            operation.error.CopyFrom(to_status(self.failure))
            return
        deployment.state = deployment_pb2.Deployment.ACTIVE
        operation.response.Pack(deployment)

    @staticmethod
    def _describe(operation: Any, deployment: Any, loading: int) -> None:
        versions = [
            deployment_pb2.VersionStatus(version=t.version, loading_replicas=loading, ready_replicas=1 - loading)
            for t in deployment.traffic
        ]
        operation.metadata.Pack(
            deployment_pb2.DeploymentOperationMetadata(
                deployment=deployment.name, generation=deployment.generation, versions=versions
            )
        )


class Operations(operations_pb2_grpc.OperationsServicer):  # type: ignore[misc]
    """Operations of `Deployments`."""

    def __init__(self, deployments: Deployments) -> None:
        self._deployments = deployments

    async def WaitOperation(self, request: Any, context: Any) -> Any:
        return self._deployments.wait(request.name)


class Scheduler(scheduler_service_pb2_grpc.SchedulerServiceServicer):
    """Three workers, in pages of two."""

    def __init__(self) -> None:
        self.workers = [
            worker_pb2.Worker(
                name=f"workers/w{n}", address=f"10.0.0.{n}:1", device=worker_pb2.Device(kind="cpu", name="a CPU")
            )
            for n in (1, 2, 3)
        ]

    async def ListWorkers(self, request: Any, context: Any) -> Any:
        items, token = _page(self.workers, request)
        return scheduler_service_pb2.ListWorkersResponse(workers=items, next_page_token=token)


class Inference:
    """Answers every call with its inputs, doubled where they are numbers; `failures` go first, one a call."""

    def __init__(self) -> None:
        self.failures: list[errors.MeshError] = []
        self.requests: list[oip.ModelInferRequest] = []
        self.metadata: list[dict[str, str]] = []
        self.remaining: list[float | None] = []
        self.arrived = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.in_band = ""
        self.hold: asyncio.Event | None = None
        self.stream_length = 3

    async def infer(self, request: Any, context: Any) -> Any:
        self._note(request, context)
        if self.failures:
            raise self.failures.pop(0)
        if self.hold is not None:
            try:
                await self.hold.wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        return self.answer(request)

    async def stream(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        try:
            async for request in requests:
                self._note(request, context)
                for _ in range(self.stream_length):
                    yield oip.ModelStreamInferResponse(infer_response=self.answer(request))
                if self.failures:
                    raise self.failures.pop(0)
                if self.in_band:
                    yield oip.ModelStreamInferResponse(error_message=self.in_band)
                end = oip.ModelInferResponse(model_name=request.model_name)
                end.parameters["triton_final_response"].bool_param = True
                yield oip.ModelStreamInferResponse(infer_response=end)
        except BaseException:
            self.cancelled.set()
            raise

    def _note(self, request: Any, context: Any) -> None:
        self.requests.append(request)
        self.arrived.set()
        self.metadata.append(dict(context.invocation_metadata()))
        self.remaining.append(context.time_remaining())

    @staticmethod
    def answer(request: Any) -> Any:
        response = oip.ModelInferResponse(
            model_name=request.model_name, model_version=request.model_version or "7", id=request.id
        )
        wanted = {output.name for output in request.outputs}
        for spec, raw in zip(request.inputs, request.raw_input_contents, strict=True):
            if wanted and spec.name not in wanted:
                continue
            response.outputs.add(name=spec.name, datatype=spec.datatype, shape=spec.shape)
            array = tensors.decode(spec.name, spec.datatype, spec.shape, raw)
            doubled = array if spec.datatype in ("BYTES", "BOOL", "BF16") else array * 2
            response.raw_output_contents.append(tensors.encode(doubled.astype(array.dtype)))
        return response

    def handler(self) -> grpc.GenericRpcHandler:
        unary = grpc.unary_unary_rpc_method_handler

        async def live(request: Any, context: Any) -> Any:
            return oip.ServerLiveResponse(live=True)

        async def ready(request: Any, context: Any) -> Any:
            return oip.ServerReadyResponse(ready=True)

        async def model_ready(request: Any, context: Any) -> Any:
            return oip.ModelReadyResponse(ready=request.name == "digits")

        async def metadata(request: Any, context: Any) -> Any:
            if request.name != "digits":
                raise errors.NotFound.of("deployment", request.name)
            answer = oip.ModelMetadataResponse(name=request.name, versions=["7"], platform="torch")
            answer.inputs.add(name="image", datatype="FP32", shape=[-1, 4])
            answer.outputs.add(name="logits", datatype="FP32", shape=[-1, 10])
            return answer

        async def server_metadata(request: Any, context: Any) -> Any:
            return oip.ServerMetadataResponse(name="infermesh", version="0", extensions=["statistics"])

        async def statistics(request: Any, context: Any) -> Any:
            answer = oip.ModelStatisticsResponse()
            row = answer.model_stats.add(name="digits", version="7", inference_count=12, execution_count=3)
            row.inference_stats.success.count, row.inference_stats.success.ns = 12, 12_000_000
            row.inference_stats.queue.count, row.inference_stats.queue.ns = 12, 1_200_000
            return answer

        table = {
            "ModelInfer": (unary, self.infer, oip.ModelInferRequest),
            "ModelStreamInfer": (grpc.stream_stream_rpc_method_handler, self.stream, oip.ModelInferRequest),
            "ServerLive": (unary, live, oip.ServerLiveRequest),
            "ServerReady": (unary, ready, oip.ServerReadyRequest),
            "ModelReady": (unary, model_ready, oip.ModelReadyRequest),
            "ModelMetadata": (unary, metadata, oip.ModelMetadataRequest),
            "ServerMetadata": (unary, server_metadata, oip.ServerMetadataRequest),
            "ModelStatistics": (unary, statistics, oip.ModelStatisticsRequest),
        }
        handlers = {
            name: make(behaviour, request_deserializer=kind.FromString, response_serializer=_serialize)
            for name, (make, behaviour, kind) in table.items()
        }
        return grpc.method_handlers_generic_handler("inference.GRPCInferenceService", handlers)


class FakeMesh:
    """All services of the gateway's port."""

    def __init__(self) -> None:
        self.artifacts = Artifacts()
        self.models = Models()
        self.deployments = Deployments()
        self.scheduler = Scheduler()
        self.inference = Inference()
        self.address = ""

    async def __aenter__(self) -> "FakeMesh":
        self._server = mesh_server.create_server()
        artifact_service_pb2_grpc.add_ArtifactServiceServicer_to_server(self.artifacts, self._server)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(self.models, self._server)
        deployment_service_pb2_grpc.add_DeploymentServiceServicer_to_server(self.deployments, self._server)
        scheduler_service_pb2_grpc.add_SchedulerServiceServicer_to_server(self.scheduler, self._server)
        operations_pb2_grpc.add_OperationsServicer_to_server(Operations(self.deployments), self._server)
        self._server.add_generic_rpc_handlers([self.inference.handler()])
        self.address = await mesh_server.bind(self._server, "127.0.0.1:0")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop(0)

    def add_version(self, model: str = "digits", version: int = 1) -> model_pb2.ModelVersion:
        """Adds a version as if it had been pushed."""
        name = names.model_name(model)
        self.models.models.setdefault(name, model_pb2.Model(name=name)).latest_version = version
        signature = model_pb2.Signature()
        signature.inputs.add(name="image", datatype="FP32", shape=[-1, 4])
        signature.outputs.add(name="logits", datatype="FP32", shape=[-1, 10])
        added = model_pb2.ModelVersion(
            name=names.version_name(model, version), backend="torch", signature=signature, max_batch_size=32
        )
        self.models.versions[added.name] = added
        return added


def _serialize(message: Any) -> bytes:
    data: bytes = message.SerializeToString()
    return data


def _get(table: dict[str, Any], kind: str, name: str) -> Any:
    if name not in table:
        raise errors.NotFound.of(kind, name)
    return table[name]


def _page(items: list[Any], request: Any) -> tuple[list[Any], str]:
    start = int(request.page_token or 0)
    page = list(itertools.islice(items, start, start + 2))
    return page, str(start + 2) if start + 2 < len(items) else ""
