"""Turns routes into the protocol's descriptions of models. Pure."""

from collections.abc import Iterator
from typing import Final

from infermesh.oip.v2 import grpc_service_pb2 as oip
from infermesh.oip.v2 import model_config_pb2 as config
from infermesh.v1.scheduler_service_pb2 import DeploymentRoute, VersionRoute
from infermesh.v1.tensor_pb2 import TensorSpec
from infermesh.v1.worker_pb2 import HeldVersion

SERVER: Final = "infermesh"
EXTENSIONS: Final = (
    "classification",
    "model_repository",
    "schedule_policy",
    "model_configuration",
    "binary_tensor_data",
    "parameters",
    "statistics",
)
"""What is truly served of Triton's extensions."""

# backend of ours: platform and backend as the protocol's clients know them
_PLATFORMS: Final = {
    "torch": ("pytorch_libtorch", "pytorch"),
    "onnx": ("onnxruntime_onnx", "onnxruntime"),
    "python": ("python", "python"),
}


def platform_of(backend: str) -> tuple[str, str]:
    """Returns platform and backend as the protocol names them; those of a plug-in are its own name."""
    return _PLATFORMS.get(backend, (backend, backend))


def ready_versions(route: DeploymentRoute) -> list[str]:
    """Returns the numbers of the versions that are ready, lowest first."""
    ready = [version.version for version in route.versions if version.state == HeldVersion.READY]
    return sorted(ready, key=int)


def metadata(route: DeploymentRoute, version: VersionRoute) -> oip.ModelMetadataResponse:
    """Returns name, versions and tensors; shapes begin with -1 where the model batches."""
    tensor = oip.ModelMetadataResponse.TensorMetadata
    signature = version.signature
    return oip.ModelMetadataResponse(
        name=route.deployment,
        versions=ready_versions(route),
        platform=platform_of(version.backend)[0],
        inputs=[tensor(name=s.name, datatype=s.datatype, shape=s.shape) for s in signature.inputs],
        outputs=[tensor(name=s.name, datatype=s.datatype, shape=s.shape) for s in signature.outputs],
    )


def max_batch_size(route: DeploymentRoute, version: VersionRoute) -> int:
    """Returns the most rows of one execution, 0 without a batch dimension."""
    limits = (version.max_batch_size, route.batching.max_batch_size or version.max_batch_size)
    return min(limits)


def model_config(route: DeploymentRoute, version: VersionRoute) -> config.ModelConfig:
    """Returns the model's configuration in Triton's form; its dims never hold the batch dimension.

    Only what is meant is set: clients read meaning into the mere presence of sub-messages.
    """
    platform, backend = platform_of(version.backend)
    rows = max_batch_size(route, version)
    skip = 1 if rows else 0
    inputs, outputs = version.signature.inputs, version.signature.outputs
    message = config.ModelConfig(
        name=route.deployment,
        platform=platform,
        backend=backend,
        max_batch_size=rows,
        input=[config.ModelInput(name=s.name, data_type=_type(s), dims=s.shape[skip:]) for s in inputs],
        output=[config.ModelOutput(name=s.name, data_type=_type(s), dims=s.shape[skip:]) for s in outputs],
    )
    message.version_policy.specific.versions.extend(map(int, ready_versions(route)))
    if version.decoupled:
        message.model_transaction_policy.decoupled = True
    elif rows:
        delay = route.batching.max_delay
        message.dynamic_batching.max_queue_delay_microseconds = delay.ToMicroseconds()
        message.dynamic_batching.preserve_ordering = False
    return message


def index(route: DeploymentRoute) -> Iterator[oip.RepositoryIndexResponse.ModelIndex]:
    """Yields an entry for every version of a deployment, lowest first."""
    for version in sorted(route.versions, key=lambda v: int(v.version)):
        state, reason = _state(version)
        yield oip.RepositoryIndexResponse.ModelIndex(
            name=route.deployment, version=version.version, state=state, reason=reason
        )


def _state(version: VersionRoute) -> tuple[str, str]:
    if version.state == HeldVersion.READY:
        return "READY", ""
    if version.state == HeldVersion.LOADING:
        return "LOADING", version.reason
    if version.state == HeldVersion.UNLOADING:
        return "UNLOADING", version.reason
    return "UNAVAILABLE", version.reason or "not loaded"


def _type(spec: TensorSpec) -> config.DataType:
    name = "STRING" if spec.datatype == "BYTES" else spec.datatype
    return config.DataType.Value(f"TYPE_{name}")  # type: ignore[return-value]  # the stub says int
