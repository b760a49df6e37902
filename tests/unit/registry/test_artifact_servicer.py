"""ArtifactService: what comes in by a stream goes out by one, and what is refused on the way."""

from collections.abc import AsyncIterator

import pytest
from prometheus_client import CollectorRegistry

from infermesh.errors import DataLoss, InvalidInput, NotFound, OutOfRange
from infermesh.mesh import metrics
from infermesh.registry.artifact_servicer import ArtifactServicer
from infermesh.registry.artifacts.memory import MemoryStore
from infermesh.registry.catalog.base import Catalog
from infermesh.registry.threads import Threads
from infermesh.registry.uploads import Uploads
from infermesh.v1 import artifact_service_pb2 as pb
from tests.unit.registry.messages import digest, ticking

DATA = bytes(range(256)) * 5000  # more than one piece of a download


@pytest.fixture
def counters() -> CollectorRegistry:
    """Where metrics go."""
    return CollectorRegistry()


@pytest.fixture
def service(catalog: Catalog, store: MemoryStore, threads: Threads, counters: CollectorRegistry) -> ArtifactServicer:
    """An ArtifactService over a store in memory."""
    moved, ended = metrics.artifact_bytes(counters), metrics.uploads_total(counters)
    uploads = Uploads(store, catalog.uploads, threads, now=ticking(), ttl=3600, received=moved, ended=ended)
    return ArtifactServicer(store, uploads, threads, moved)


async def stream(*messages: pb.UploadArtifactRequest) -> AsyncIterator[pb.UploadArtifactRequest]:
    """Sends messages."""
    for message in messages:
        yield message


async def downloaded(service: ArtifactServicer, name: str, offset: int = 0) -> list[bytes]:
    """Returns the pieces of a file."""
    request = pb.DownloadArtifactRequest(digest=name, offset=offset)
    return [response.data async for response in service.DownloadArtifact(request, None)]


async def uploaded(service: ArtifactServicer, data: bytes) -> str:
    """Stores a file and returns its digest."""
    started = await service.StartUpload(pb.StartUploadRequest(digest=digest(data), size_bytes=len(data)), None)
    done = await service.UploadArtifact(stream(pb.UploadArtifactRequest(name=started.name, data=data)), None)
    assert done.complete
    return digest(data)


async def test_a_file_comes_out_as_it_went_in(service: ArtifactServicer, counters: CollectorRegistry) -> None:
    name = await uploaded(service, DATA)
    pieces = await downloaded(service, name)
    assert len(pieces) > 1
    assert b"".join(pieces) == DATA
    assert b"".join(await downloaded(service, name, 300_000)) == DATA[300_000:]
    assert counters.get_sample_value("infermesh_artifact_bytes_total", {"direction": "in"}) == len(DATA)
    sent = counters.get_sample_value("infermesh_artifact_bytes_total", {"direction": "out"})
    assert sent == 2 * len(DATA) - 300_000


async def test_only_the_first_message_needs_the_name(service: ArtifactServicer) -> None:
    started = await service.StartUpload(pb.StartUploadRequest(digest=digest(DATA), size_bytes=len(DATA)), None)
    first = pb.UploadArtifactRequest(name=started.name, data=DATA[:10])
    done = await service.UploadArtifact(stream(first, pb.UploadArtifactRequest(offset=10, data=DATA[10:])), None)
    assert done.complete
    assert await service.GetUpload(pb.GetUploadRequest(name=started.name), None) == done


async def test_a_damaged_file_is_never_sent_whole(service: ArtifactServicer, store: MemoryStore) -> None:
    name = await uploaded(service, DATA)
    store.finished[name] = DATA[:-1] + b"!"
    got: list[bytes] = []
    with pytest.raises(DataLoss):
        await _collect(service, name, got)
    assert len(b"".join(got)) < len(DATA)
    again = await service.StartUpload(pb.StartUploadRequest(digest=name, size_bytes=len(DATA)), None)
    assert not again.complete  # so that it can be repaired


async def _collect(service: ArtifactServicer, name: str, pieces: list[bytes]) -> None:
    async for response in service.DownloadArtifact(pb.DownloadArtifactRequest(digest=name), None):
        pieces.append(response.data)


async def test_bad_requests_are_refused(service: ArtifactServicer) -> None:
    good = digest(b"x")
    calls = [
        (InvalidInput, service.StartUpload(pb.StartUploadRequest(digest="x", size_bytes=1), None)),
        (InvalidInput, service.StartUpload(pb.StartUploadRequest(digest=good, size_bytes=-1), None)),
        (InvalidInput, service.UploadArtifact(stream(), None)),
        (InvalidInput, service.UploadArtifact(stream(pb.UploadArtifactRequest(data=b"x")), None)),
        (InvalidInput, service.UploadArtifact(stream(pb.UploadArtifactRequest(name="uploads/../x")), None)),
        (NotFound, service.UploadArtifact(stream(pb.UploadArtifactRequest(name="uploads/none")), None)),
        (InvalidInput, service.GetUpload(pb.GetUploadRequest(name="none"), None)),
        (NotFound, service.GetUpload(pb.GetUploadRequest(name="uploads/none"), None)),
        (InvalidInput, downloaded(service, "sha256:../../etc/passwd")),
        (NotFound, downloaded(service, good)),
        (OutOfRange, downloaded(service, await uploaded(service, DATA), len(DATA) + 1)),
    ]
    for error, call in calls:
        with pytest.raises(error):
            await call
