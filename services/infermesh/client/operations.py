"""Waits for the long-running operation of a deployment. Used by `deployments`."""

from collections.abc import Callable
from typing import Final

from google.longrunning import operations_pb2

from infermesh import names
from infermesh.client import methods
from infermesh.client.connection import Connection
from infermesh.client.retry import may_repeat
from infermesh.errors import DeadlineExceeded, MeshError
from infermesh.mesh.status import from_status
from infermesh.v1 import deployment_pb2, deployment_service_pb2

SLICE: Final = 5.0
"""Longest time in seconds that one call waits: short, so that a mesh that has gone away is noticed."""

WATCHED_SLICE: Final = 0.5
"""The same while somebody looks on."""

Watcher = Callable[[deployment_pb2.DeploymentOperationMetadata], None]


async def finished(
    connection: Connection,
    operation: operations_pb2.Operation,
    deployment: str,
    *,
    timeout: float,
    watch: Watcher | None = None,
) -> deployment_pb2.Deployment:
    """Returns the deployment once its operation has ended well.

    Raises the error that the operation ended with, or DeadlineExceeded after `timeout` seconds. Survives a gateway or
    registry that is away for a while.
    """
    deadline = connection.clock.time() + timeout
    slice_ = WATCHED_SLICE if watch else SLICE
    while not operation.done:
        _show(operation, watch)
        left = deadline - connection.clock.time()
        if left <= 0:
            raise _overdue(operation, deployment, timeout)
        operation = await _wait_once(connection, operation, min(left, slice_))
    _show(operation, watch)
    if operation.HasField("error"):
        raise from_status(operation.error)
    result = deployment_pb2.Deployment()
    if operation.response.Unpack(result):
        return result
    request = deployment_service_pb2.GetDeploymentRequest(name=names.deployment_name(deployment))
    return await connection.call(methods.GET_DEPLOYMENT, request)


async def _wait_once(
    connection: Connection, operation: operations_pb2.Operation, seconds: float
) -> operations_pb2.Operation:
    request = operations_pb2.WaitOperationRequest(name=operation.name)
    request.timeout.FromNanoseconds(round(seconds * 1e9))
    try:
        return await connection.call(methods.WAIT_OPERATION, request, timeout=seconds + connection.timeout)
    except MeshError as error:
        if not may_repeat(error, safe=True):
            raise
        await connection.clock.sleep(connection.retry.first)
        return operation


def _show(operation: operations_pb2.Operation, watch: Watcher | None) -> None:
    metadata = deployment_pb2.DeploymentOperationMetadata()
    if watch is not None and operation.metadata.Unpack(metadata):
        watch(metadata)


def _overdue(operation: operations_pb2.Operation, deployment: str, timeout: float) -> DeadlineExceeded:
    metadata = deployment_pb2.DeploymentOperationMetadata()
    operation.metadata.Unpack(metadata)
    versions = [
        f"version {v.version}: {v.ready_replicas} ready, {v.loading_replicas} loading" for v in metadata.versions
    ]
    state = metadata.reason or "; ".join(versions) or "nothing is placed yet"
    return DeadlineExceeded(
        f"deployment '{deployment}' is not ready after {timeout:g} s ({state}); it goes on in the background",
        metadata={"deployment": deployment},
    )
