"""Describes a held version in the messages of the Open Inference Protocol. Used by `oip_servicer`."""

from collections.abc import Sequence

from infermesh.oip.v2 import grpc_service_pb2 as oip
from infermesh.oip.v2 import model_config_pb2 as config
from infermesh.v1 import tensor_pb2
from infermesh.worker.models import HeldModel


def metadata(model: HeldModel) -> oip.ModelMetadataResponse:
    """Returns names, datatypes and shapes; shapes include the batch dimension."""
    signature = model.version.signature
    return oip.ModelMetadataResponse(
        name=model.deployment,
        versions=[model.number],
        platform=model.version.backend,
        inputs=_tensors(signature.inputs),
        outputs=_tensors(signature.outputs),
    )


def _tensors(specs: Sequence[tensor_pb2.TensorSpec]) -> list[oip.ModelMetadataResponse.TensorMetadata]:
    kind = oip.ModelMetadataResponse.TensorMetadata
    return [kind(name=spec.name, datatype=spec.datatype, shape=spec.shape) for spec in specs]


def configuration(model: HeldModel) -> oip.ModelConfigResponse:
    """Returns the model's configuration; its dims leave the batch dimension out, as Triton has it."""
    version, batched = model.version, model.version.max_batch_size > 0
    answer = config.ModelConfig(
        name=model.deployment,
        platform=version.backend,
        backend=version.backend,
        max_batch_size=version.max_batch_size,
    )
    for spec in version.signature.inputs:
        answer.input.add(name=spec.name, data_type=_type(spec.datatype), dims=spec.shape[1:] if batched else spec.shape)
    for spec in version.signature.outputs:
        answer.output.add(
            name=spec.name, data_type=_type(spec.datatype), dims=spec.shape[1:] if batched else spec.shape
        )
    if version.decoupled:
        answer.model_transaction_policy.decoupled = True
    elif batched:
        answer.dynamic_batching.SetInParent()
    return oip.ModelConfigResponse(config=answer)


def _type(datatype: str) -> str:
    return "TYPE_STRING" if datatype == "BYTES" else f"TYPE_{datatype}"
