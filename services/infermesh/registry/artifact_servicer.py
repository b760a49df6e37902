"""`infermesh.v1.ArtifactService`: files come in and go out."""

from collections.abc import AsyncIterator

import grpc.aio
import structlog
from prometheus_client import Counter

from infermesh import names
from infermesh.errors import DataLoss, InvalidInput
from infermesh.registry.artifacts.base import ArtifactStore
from infermesh.registry.rules.fields import check_range
from infermesh.registry.threads import Threads
from infermesh.registry.uploads import Uploads
from infermesh.v1 import artifact_service_pb2 as pb
from infermesh.v1.artifact_service_pb2_grpc import ArtifactServiceServicer

_SIZE_MAX = 2**53  # beyond any disk, and exact in JSON


class ArtifactServicer(ArtifactServiceServicer):
    """See artifact_service.proto."""

    def __init__(self, store: ArtifactStore, uploads: Uploads, threads: Threads, sent: Counter) -> None:
        self._store = store
        self._uploads = uploads
        self._threads = threads
        self._sent = sent
        self._log = structlog.get_logger(__name__)

    async def StartUpload(self, request: pb.StartUploadRequest, context: grpc.aio.ServicerContext) -> pb.Upload:
        """See artifact_service.proto."""
        names.check_digest(request.digest)
        check_range("size_bytes", request.size_bytes, 0, _SIZE_MAX)
        return await self._uploads.start(request.digest, request.size_bytes)

    async def UploadArtifact(
        self, requests: AsyncIterator[pb.UploadArtifactRequest], context: grpc.aio.ServicerContext
    ) -> pb.Upload:
        """See artifact_service.proto."""
        first = await anext(aiter(requests), None)
        if first is None:
            raise InvalidInput("the stream is empty: expected a message with the name of an upload")
        (upload,) = names.parse("uploads/*", first.name)
        return await self._uploads.receive(upload, _chain(first, requests))

    async def GetUpload(self, request: pb.GetUploadRequest, context: grpc.aio.ServicerContext) -> pb.Upload:
        """See artifact_service.proto."""
        (upload,) = names.parse("uploads/*", request.name)
        return await self._uploads.state(upload)

    async def DownloadArtifact(
        self, request: pb.DownloadArtifactRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.DownloadArtifactResponse]:
        """See artifact_service.proto."""
        sent = self._sent.labels("out")
        pieces = self._store.read(names.check_digest(request.digest), request.offset)
        try:
            while piece := await self._threads.next(pieces):
                yield pb.DownloadArtifactResponse(data=piece)
                sent.inc(len(piece))
        except DataLoss as error:  # the operator should know, not only the caller
            self._log.error("artifact damaged", **error.metadata)
            raise


async def _chain(
    first: pb.UploadArtifactRequest, rest: AsyncIterator[pb.UploadArtifactRequest]
) -> AsyncIterator[pb.UploadArtifactRequest]:
    yield first
    async for message in rest:
        yield message
