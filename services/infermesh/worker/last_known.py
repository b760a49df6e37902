"""What this worker held last, for a start while scheduler or registry can't be reached. Used by the agent, and by
holdings through `RememberingSource`.

    FOLDER/assignments       what the scheduler wanted here last
    FOLDER/versions/<hex>    descriptions of those versions, by digest; their files are in the artifact cache

What can't be read or written is done without, which is logged.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TypeVar

import structlog
from google.protobuf.message import DecodeError, Message

from infermesh.mesh.kept_file import KeptFile
from infermesh.names import check_digest
from infermesh.v1 import model_pb2, scheduler_service_pb2, worker_pb2
from infermesh.worker.source import Source

M = TypeVar("M", bound=Message)


class LastKnown:
    """The assignments of this worker and the versions that they name, in a folder."""

    def __init__(self, folder: Path) -> None:
        self._file = KeptFile(folder / "assignments")
        self._versions = folder / "versions"
        self._kept: Sequence[worker_pb2.Assignment] | None = None
        self._log = structlog.get_logger(__name__)

    async def assignments(self) -> Sequence[worker_pb2.Assignment]:
        """Returns what an earlier life was told to hold."""
        answer = await asyncio.to_thread(self._read, self._file, scheduler_service_pb2.HeartbeatResponse)
        return answer.assignments if answer is not None else ()

    async def keep(self, assignments: Sequence[worker_pb2.Assignment]) -> None:
        """Writes what is to be held from now on, if that is new, and forgets versions that are not."""
        if self._kept is not None and list(self._kept) == list(assignments):
            return
        self._kept = assignments
        content = scheduler_service_pb2.HeartbeatResponse(assignments=assignments).SerializeToString()
        await asyncio.to_thread(self._replace, content, {_name(one.digest) for one in assignments})

    async def version(self, digest: str) -> model_pb2.ModelVersion | None:
        """Returns the version with a digest, if it is known. Raises InvalidInput if it can't be a digest."""
        found = await asyncio.to_thread(self._read, self._version_file(digest), model_pb2.ModelVersion)
        return found if found is not None and found.digest == digest else None

    async def keep_version(self, version: model_pb2.ModelVersion) -> None:
        """Writes a version. Raises InvalidInput if its digest can't be one."""
        await asyncio.to_thread(self._write, self._version_file(version.digest), version.SerializeToString())

    def _version_file(self, digest: str) -> KeptFile:
        return KeptFile(self._versions / _name(check_digest(digest)))

    def _read(self, file: KeptFile, kind: type[M]) -> M | None:
        content = file.read()
        if content is None:
            return None
        try:
            return kind.FromString(content)
        except DecodeError as error:
            self._log.warning("what was kept makes no sense, going on without it", error=str(error))
            return None

    def _replace(self, content: bytes, needed: set[str]) -> None:
        self._write(self._file, content)
        with contextlib.suppress(OSError):
            for entry in self._versions.iterdir():
                if entry.name.removesuffix(".partial") not in needed:
                    entry.unlink()

    def _write(self, file: KeptFile, content: bytes) -> None:
        try:
            file.write(content)
        except OSError as error:
            self._log.warning("what is held can't be kept", error=str(error))


class RememberingSource:
    """A source that is asked for each version only once: what has a digest never changes."""

    def __init__(self, source: Source, known: LastKnown) -> None:
        self._source, self._known = source, known

    async def version(self, name: str, digest: str) -> model_pb2.ModelVersion:
        """See `Source`."""
        found = await self._known.version(digest)
        if found is None or found.name != name:
            found = await self._source.version(name, digest)
            await self._known.keep_version(found)
        return found

    def download(self, digest: str, offset: int) -> AsyncIterator[bytes]:
        """See `Source`."""
        return self._source.download(digest, offset)


def _name(digest: str) -> str:
    return digest.removeprefix("sha256:")
