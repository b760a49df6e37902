"""Where a worker gets versions from: the registry. Used by the agent."""

from collections.abc import AsyncIterator
from typing import Protocol

import grpc
import grpc.aio

from infermesh.mesh.status import from_rpc_error
from infermesh.v1 import (
    artifact_service_pb2,
    artifact_service_pb2_grpc,
    model_pb2,
    model_service_pb2,
    model_service_pb2_grpc,
)

_SHORT = 10.0  # seconds for a description with its samples
_LONG = 3600.0  # seconds for one file; a silent wire is noticed by keepalive much earlier


class Source(Protocol):
    """Gives versions and their files."""

    async def version(self, name: str, digest: str) -> model_pb2.ModelVersion:
        """Returns a version with its samples, expected to have that digest, which is the caller's to check.

        Raises MeshError; NotReady while the registry is away. Cancel-safe.
        """
        ...

    def download(self, digest: str, offset: int) -> AsyncIterator[bytes]:
        """Yields the bytes of a file from an offset on. Raises MeshError. Cancel-safe."""
        ...


class RegistrySource:
    """Asks the registry."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._models = model_service_pb2_grpc.ModelServiceStub(channel)  # type: ignore[no-untyped-call]
        self._artifacts = artifact_service_pb2_grpc.ArtifactServiceStub(channel)  # type: ignore[no-untyped-call]

    async def version(self, name: str, digest: str) -> model_pb2.ModelVersion:
        """See `Source`."""
        request = model_service_pb2.GetModelVersionRequest(name=name)
        try:
            version: model_pb2.ModelVersion = await self._models.GetModelVersion(request, timeout=_SHORT)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
        return version

    async def download(self, digest: str, offset: int) -> AsyncIterator[bytes]:
        """See `Source`."""
        request = artifact_service_pb2.DownloadArtifactRequest(digest=digest, offset=offset)
        try:
            async for response in self._artifacts.DownloadArtifact(request, timeout=_LONG):
                yield response.data
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
