"""`infermesh.v1.DeploymentService`: what shall be served."""

from typing import TypeAlias

import grpc.aio
from google.longrunning.operations_pb2 import Operation
from google.protobuf.empty_pb2 import Empty

from infermesh import names
from infermesh.registry.catalog.base import Catalog
from infermesh.registry.requests import key_of, mask_of
from infermesh.registry.rules import deployments, pages
from infermesh.registry.threads import Threads
from infermesh.v1 import deployment_service_pb2 as pb
from infermesh.v1.deployment_pb2 import Deployment
from infermesh.v1.deployment_service_pb2_grpc import DeploymentServiceServicer

Context: TypeAlias = grpc.aio.ServicerContext


class DeploymentServicer(DeploymentServiceServicer):
    """See deployment_service.proto."""

    def __init__(self, catalog: Catalog, threads: Threads) -> None:
        self._deployments = catalog.deployments
        self._run = threads.run

    async def CreateDeployment(self, request: pb.CreateDeploymentRequest, context: Context) -> Operation:
        """See deployment_service.proto."""
        names.check_id("deployment", request.deployment_id)
        deployments.check_deployment(request.deployment)
        return await self._run(self._deployments.create, request.deployment_id, request.deployment, key_of(request))

    async def GetDeployment(self, request: pb.GetDeploymentRequest, context: Context) -> Deployment:
        """See deployment_service.proto."""
        (deployment,) = names.parse("deployments/*", request.name)
        return await self._run(self._deployments.get, deployment)

    async def ListDeployments(self, request: pb.ListDeploymentsRequest, context: Context) -> pb.ListDeploymentsResponse:
        """See deployment_service.proto."""
        model = names.parse("models/*", request.model)[0] if request.model else ""
        scope, size = ("deployments", model), pages.page_size(request.page_size)
        after = pages.decode(scope, request.page_token)
        found = await self._run(self._deployments.page, model, after, size + 1)
        shown, token = pages.cut(scope, found, size, lambda item: item.name.removeprefix("deployments/"))
        return pb.ListDeploymentsResponse(deployments=shown, next_page_token=token)

    async def UpdateDeployment(self, request: pb.UpdateDeploymentRequest, context: Context) -> Operation:
        """See deployment_service.proto."""
        (deployment,) = names.parse("deployments/*", request.deployment.name)
        wanted, mask = request.deployment, mask_of(request)
        return await self._run(
            self._deployments.update,
            deployment,
            lambda current: deployments.updated(current, wanted, mask),
            wanted.etag,
        )

    async def DeleteDeployment(self, request: pb.DeleteDeploymentRequest, context: Context) -> Empty:
        """See deployment_service.proto."""
        (deployment,) = names.parse("deployments/*", request.name)
        await self._run(self._deployments.delete, deployment, request.etag)
        return Empty()
