"""Calls of a deployment's model: numpy in, numpy out, over the Open Inference Protocol. Part of `AsyncClient`."""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from infermesh import tensors
from infermesh.client import methods
from infermesh.client.connection import Connection
from infermesh.errors import Internal, MeshError, NotReady
from infermesh.oip.v2 import grpc_service_pb2 as oip
from infermesh.tensors import Array

# asks for stream errors as the status of the call, which keeps their class; in-band ones are text only
_STATUS_ERRORS: Final = (("triton_grpc_error", "true"),)


@dataclass(frozen=True, eq=False)
class InferResult(Mapping[str, Array]):
    """The outputs of one call by name, in the order of the answer."""

    outputs: dict[str, Array]
    model: str
    """Deployment that answered."""
    version: str
    """Version number that answered."""
    request_id: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Array:
        return self.outputs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.outputs)

    def __len__(self) -> int:
        return len(self.outputs)


def encode_request(
    deployment: str,
    inputs: Mapping[str, npt.ArrayLike],
    *,
    version: str = "",
    outputs: Sequence[str] | None = None,
    request_id: str = "",
    priority: int | None = None,
) -> oip.ModelInferRequest:
    """Returns the protocol's request; arrays travel raw. Raises InvalidInput for a dtype without a counterpart."""
    request = oip.ModelInferRequest(model_name=deployment, model_version=version, id=request_id)
    for name, value in inputs.items():
        array = np.asarray(value)
        request.inputs.add(name=name, datatype=tensors.datatype_of(array), shape=array.shape)
        request.raw_input_contents.append(tensors.encode(array))
    for name in outputs or ():
        request.outputs.add(name=name)
    if priority is not None:
        request.parameters["priority"].int64_param = priority
    return request


def decode_response(response: oip.ModelInferResponse) -> InferResult:
    """Returns the result of an answer; its arrays are read-only views. Raises BadTensor or Internal if it is broken."""
    if len(response.outputs) != len(response.raw_output_contents):
        raise Internal(
            f"answer of {response.model_name!r}: {len(response.outputs)} outputs, "
            f"but {len(response.raw_output_contents)} raw contents"
        )
    arrays = {
        spec.name: tensors.decode(spec.name, spec.datatype, spec.shape, raw)
        for spec, raw in zip(response.outputs, response.raw_output_contents, strict=True)
    }
    parameters = {
        key: getattr(p, p.WhichOneof("parameter_choice") or "", None) for key, p in response.parameters.items()
    }
    return InferResult(arrays, response.model_name, response.model_version, response.id, parameters)


class InferenceCalls:
    """Inference, health and metadata of deployments."""

    _connection: Connection

    async def infer(
        self,
        deployment: str,
        inputs: Mapping[str, npt.ArrayLike],
        *,
        version: str = "",
        outputs: Sequence[str] | None = None,
        timeout: float | None = None,
        request_id: str = "",
        priority: int | None = None,
    ) -> InferResult:
        """Runs the model of a deployment once.

        `inputs` maps tensor names to arrays with the signature's dtype and shape, batch first; text is an array of str
        or bytes. `version` is a number or an alias; empty leaves the choice to the deployment's traffic. `outputs`
        names the wanted tensors; None means all. `timeout` is in seconds and travels with the call. A higher
        `priority` goes first; 0 is normal.

        Raises BadTensor (what was expected, what came), NotFound, NotReady (loading; `retry_after`), LoadFailed,
        Overloaded, DeadlineExceeded. Repeated only where the mesh had refused the call before beginning it.
        """
        request = encode_request(
            deployment, inputs, version=version, outputs=outputs, request_id=request_id, priority=priority
        )
        return decode_response(await self._connection.call(methods.INFER, request, timeout=timeout))

    async def infer_stream(
        self,
        deployment: str,
        inputs: Mapping[str, npt.ArrayLike],
        *,
        version: str = "",
        outputs: Sequence[str] | None = None,
        timeout: float | None = None,
        request_id: str = "",
        priority: int | None = None,
    ) -> AsyncIterator[InferResult]:
        """Runs the model once and yields its results as they come; most models give one. Arguments as `infer`.

        Leaving the loop early cancels the call. Raises like `infer`, at any point; never repeated.
        """
        request = encode_request(
            deployment, inputs, version=version, outputs=outputs, request_id=request_id, priority=priority
        )
        answers = self._connection.exchange(methods.STREAM_INFER, request, timeout=timeout, metadata=_STATUS_ERRORS)
        async for answer in answers:
            if answer.error_message:
                raise MeshError(answer.error_message)
            if answer.infer_response.outputs:  # the last message of a stream may carry nothing but the end
                yield decode_response(answer.infer_response)

    async def live(self) -> bool:
        """Tells whether the gateway's process answers."""
        try:
            return (await self._connection.call(methods.SERVER_LIVE, oip.ServerLiveRequest())).live
        except NotReady:
            return False

    async def ready(self, deployment: str = "", version: str = "") -> bool:
        """Tells whether the gateway takes calls, or whether a deployment (or one version of it) would answer now."""
        try:
            if not deployment:
                return (await self._connection.call(methods.SERVER_READY, oip.ServerReadyRequest())).ready
            request = oip.ModelReadyRequest(name=deployment, version=version)
            return (await self._connection.call(methods.MODEL_READY, request)).ready
        except NotReady:
            return False

    async def metadata(self, deployment: str, version: str = "") -> oip.ModelMetadataResponse:
        """Returns names, datatypes and shapes of the tensors, and the versions. Raises NotFound, NotReady."""
        request = oip.ModelMetadataRequest(name=deployment, version=version)
        return await self._connection.call(methods.MODEL_METADATA, request)

    async def statistics(self, deployment: str = "", version: str = "") -> list[oip.ModelStatistics]:
        """Returns counts and times of the calls, of all deployments or of one. Raises NotFound."""
        request = oip.ModelStatisticsRequest(name=deployment, version=version)
        return list((await self._connection.call(methods.MODEL_STATISTICS, request)).model_stats)

    async def server_metadata(self) -> oip.ServerMetadataResponse:
        """Returns name, version and protocol extensions of the gateway."""
        return await self._connection.call(methods.SERVER_METADATA, oip.ServerMetadataRequest())
