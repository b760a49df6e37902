"""Sends a file to the registry: digest first, only what is missing, and on from where a cut left it."""

import asyncio
import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc.aio

from infermesh.client import methods
from infermesh.client.connection import Connection, translated
from infermesh.client.retry import may_repeat
from infermesh.errors import DataLoss, InvalidInput, MeshError, NotReady, OutOfRange
from infermesh.v1 import artifact_service_pb2, model_pb2

PIECE: Final = 512 * 1024
"""Bytes of one message."""

STALL: Final = 60.0
"""Seconds that one piece may take before the stream counts as dead."""

MOST_CUTS: Final = 8
"""Cuts in a row without a byte of progress after which an upload is given up."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class LocalFile:
    """A file of a version and where it lies here."""

    path: str
    source: Path
    digest: str
    size: int

    def described(self) -> model_pb2.ModelFile:
        """Returns what the registry is told of it."""
        return model_pb2.ModelFile(path=self.path, digest=self.digest, size_bytes=self.size)


def measure(path: str, source: Path) -> LocalFile:
    """Reads a file once, in pieces, for its digest and size. Blocks: call in a thread. Raises InvalidInput."""
    try:
        with source.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return LocalFile(path, source, f"sha256:{digest}", file.tell())
    except OSError as error:
        raise InvalidInput(f"file {source}: can't read it: {error.strerror}") from error


class Upload:
    """Brings one file to the registry. `report` is called with the bytes of this file that are safely there."""

    def __init__(self, connection: Connection, file: LocalFile, report: Callable[[int], None]) -> None:
        self._connection = connection
        self._file = file
        self._report = report

    async def run(self) -> None:
        """Sends what the registry lacks. Raises MeshError; after a cut it goes on by itself."""
        request = artifact_service_pb2.StartUploadRequest(digest=self._file.digest, size_bytes=self._file.size)
        state = await self._connection.call(methods.START_UPLOAD, request)
        cuts = 0
        while not state.complete:
            self._report(state.received_bytes)
            before = state.received_bytes
            try:
                # after a cut one piece alone: a refusal then arrives as such, not as a broken stream
                state = await self._send(state, PIECE if cuts else self._file.size)
            except MeshError as error:
                state = await self._after_cut(state.name, error, cuts)
            cuts = 0 if state.received_bytes > before else cuts + 1
        self._report(self._file.size)

    async def _after_cut(self, name: str, error: MeshError, cuts: int) -> artifact_service_pb2.Upload:
        """Waits and asks how far the upload has come; raises `error` if going on is pointless."""
        out_of_step = isinstance(error, OutOfRange)  # e.g. the bytes before a cut arrived after all
        if cuts >= MOST_CUTS or not (out_of_step or may_repeat(error, safe=True)):
            raise error
        retry = self._connection.retry
        await self._connection.clock.sleep(min(retry.most, retry.first * 2**cuts))
        patience = max(self._connection.timeout, retry.most * MOST_CUTS)  # a registry may be restarting
        return await self._connection.call(
            methods.GET_UPLOAD, artifact_service_pb2.GetUploadRequest(name=name), timeout=patience
        )

    async def _send(self, state: artifact_service_pb2.Upload, most: int) -> artifact_service_pb2.Upload:
        """Sends at most so many bytes on one stream and returns the state after it."""
        end = min(self._file.size, state.received_bytes + most)
        try:
            with translated():
                call = self._connection.open_upstream(methods.UPLOAD)
                try:
                    with suppress(asyncio.InvalidStateError):  # ended by the server: its status or answer says why
                        await self._pieces(call, state, end)
                    async with asyncio.timeout(STALL):
                        answer: artifact_service_pb2.Upload = await call
                finally:
                    call.cancel()
        except TimeoutError as error:
            raise NotReady(f"upload of {self._file.path}: no progress for {STALL:.0f} s") from error
        if not answer.complete and answer.received_bytes <= state.received_bytes:
            raise DataLoss(f"upload of {self._file.path}: the registry took the bytes but did not complete the file")
        return answer

    async def _pieces(
        self,
        call: "grpc.aio.StreamUnaryCall[artifact_service_pb2.UploadArtifactRequest, artifact_service_pb2.Upload]",
        state: artifact_service_pb2.Upload,
        end: int,
    ) -> None:
        offset = state.received_bytes
        with self._file.source.open("rb") as file:
            file.seek(offset)
            while True:
                data = await asyncio.to_thread(file.read, min(PIECE, end - offset))
                if not data and offset < end:
                    raise DataLoss(f"file {self._file.source}: it became shorter while it was sent")
                request = artifact_service_pb2.UploadArtifactRequest(name=state.name, offset=offset, data=data)
                async with asyncio.timeout(STALL):
                    await call.write(request)
                offset += len(data)
                self._report(offset)
                if offset >= end:
                    await call.done_writing()
                    return
