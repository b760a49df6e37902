"""What the repository extension asks of the registry. Every method raises the registry's own error."""

from collections.abc import AsyncIterator
from typing import Any, Final, TypeVar

import grpc.aio
from google.longrunning import operations_pb2
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from infermesh import names
from infermesh.errors import AlreadyExists
from infermesh.mesh import status
from infermesh.v1 import deployment_pb2, deployment_service_pb2, model_service_pb2

_M = TypeVar("_M", bound=Message)

_TIMEOUT: Final = 10.0
_PAGE: Final = 1_000
_DEPLOYMENTS: Final = "/infermesh.v1.DeploymentService"
_MODELS: Final = "/infermesh.v1.ModelService"


class Registry:
    """A client of one registry."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel

    async def versions(self) -> AsyncIterator[tuple[str, str]]:
        """Yields model and version number of everything that was pushed."""
        models = model_service_pb2.ListModelsRequest(page_size=_PAGE)
        async for page in self._pages(f"{_MODELS}/ListModels", models, model_service_pb2.ListModelsResponse):
            for model in page.models:
                async for version in self._versions_of(model.name):
                    yield version

    async def deploy(self, model: str) -> operations_pb2.Operation:
        """Deploys the latest version of a model under the model's id, whether it is deployed already or not."""
        wanted = deployment_pb2.Deployment(model=names.model_name(model))
        wanted.traffic.add(version="latest", weight=100)
        create = deployment_service_pb2.CreateDeploymentRequest(deployment_id=model, deployment=wanted)
        try:
            return await self._ask(f"{_DEPLOYMENTS}/CreateDeployment", create, operations_pb2.Operation)
        except AlreadyExists:
            wanted.name = names.deployment_name(model)
        update = deployment_service_pb2.UpdateDeploymentRequest(deployment=wanted)
        update.update_mask.paths.append("traffic")
        return await self._ask(f"{_DEPLOYMENTS}/UpdateDeployment", update, operations_pb2.Operation)

    async def delete(self, deployment: str) -> None:
        """Deletes a deployment."""
        request = deployment_service_pb2.DeleteDeploymentRequest(name=names.deployment_name(deployment))
        await self._ask(f"{_DEPLOYMENTS}/DeleteDeployment", request, Empty)

    async def wait(self, operation: str, seconds: float) -> operations_pb2.Operation:
        """Returns an operation once it is done, or as it stands after some seconds."""
        request = operations_pb2.WaitOperationRequest(name=operation)
        request.timeout.FromNanoseconds(int(seconds * 1e9))
        path = "/google.longrunning.Operations/WaitOperation"
        return await self._ask(path, request, operations_pb2.Operation, seconds + _TIMEOUT)

    async def _versions_of(self, model: str) -> AsyncIterator[tuple[str, str]]:
        request = model_service_pb2.ListModelVersionsRequest(parent=model, page_size=_PAGE)
        answer = model_service_pb2.ListModelVersionsResponse
        async for page in self._pages(f"{_MODELS}/ListModelVersions", request, answer):
            for version in page.versions:
                name, number = names.parse("models/*/versions/*", version.name)
                yield name, number

    async def _pages(self, path: str, request: Any, answer: type[_M]) -> AsyncIterator[Any]:
        while True:
            page: Any = await self._ask(path, request, answer)
            yield page
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def _ask(self, path: str, request: Message, answer: type[_M], timeout: float = _TIMEOUT) -> _M:
        call: Any = self._channel.unary_unary(
            path,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer.FromString,
        )
        try:
            response: _M = await call(request, timeout=timeout)
        except grpc.aio.AioRpcError as error:
            raise status.from_rpc_error(error) from error
        return response
