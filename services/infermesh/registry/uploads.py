"""Files on their way in. Used by the artifact servicer; the sweeper runs in `main`.

An upload that was cut is taken up again where it stands, by the same caller or by another that starts an upload of the
same digest: starting hands out an idle upload that has bytes, if there is one. Two callers that start at the same time
each get their own, and whoever finishes first makes the other complete as well. One stream writes an upload at a time;
a newer stream takes over from an older one, because a caller that lost its connection is back before we notice.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable

import structlog
from prometheus_client import Counter

from infermesh.errors import Conflict, InvalidInput, MeshError, OutOfRange
from infermesh.mesh.clock import Clock
from infermesh.registry.artifacts.base import ArtifactStore, Partial
from infermesh.registry.catalog import base
from infermesh.registry.catalog.base import UploadRecord
from infermesh.registry.threads import Threads
from infermesh.v1.artifact_service_pb2 import Upload, UploadArtifactRequest


class Uploads:
    """Opens, receives and sweeps uploads. Safe to use from many tasks of one event loop."""

    def __init__(
        self,
        store: ArtifactStore,
        records: base.Uploads,
        threads: Threads,
        *,
        now: Callable[[], int],
        ttl: float,
        received: Counter,
        ended: Counter,
    ) -> None:
        """`now` is in nanoseconds since 1970, `ttl` in seconds; `received` counts bytes, `ended` streams by result."""
        self._store = store
        self._records = records
        self._threads = threads
        self._now = now
        self._ttl = int(ttl * 1e9)
        self._received = received
        self._ended = ended
        self._streams: dict[str, asyncio.Task[None]] = {}
        self._log = structlog.get_logger(__name__)

    async def start(self, digest: str, size: int) -> Upload:
        """Opens an upload, takes up an idle one, or finds the file already there. Raises InvalidInput for the size."""
        stored = await self._threads.run(self._store.size, digest)
        if stored is not None and stored != size:
            raise InvalidInput(
                f"size_bytes: the file {digest} has {stored} bytes, got {size}",
                metadata={"expected": str(stored), "got": str(size)},
            )
        record = await self._idle(digest, size) or UploadRecord(secrets.token_hex(16), digest, size, 0)
        record = await self._keep(record)
        if size == 0 and stored is None:  # there will be no bytes to wait for
            partial = await self._threads.run(self._store.open, record.id)
            await self._threads.run(partial.commit, digest)
        return await self._state(record)

    async def _idle(self, digest: str, size: int) -> UploadRecord | None:
        for record in await self._threads.run(self._records.find, digest):
            idle = record.id not in self._streams and record.size == size and record.expires > self._now()
            if idle and await self._threads.run(self._store.received, record.id) > 0:
                return record
        return None

    async def state(self, upload: str) -> Upload:
        """Returns how far an upload has come. Raises NotFound."""
        return await self._state(await self._threads.run(self._records.get, upload))

    async def _state(self, record: UploadRecord) -> Upload:
        complete = await self._threads.run(self._store.size, record.digest) == record.size
        received = record.size if complete else await self._threads.run(self._store.received, record.id)
        upload = Upload(
            name=f"uploads/{record.id}",
            digest=record.digest,
            size_bytes=record.size,
            received_bytes=received,
            complete=complete,
        )
        upload.expire_time.FromNanoseconds(record.expires)
        return upload

    async def receive(self, upload: str, messages: AsyncIterator[UploadArtifactRequest]) -> Upload:
        """Writes what a stream brings until the file is whole or the stream ends, and returns how far it came.

        Raises NotFound, OutOfRange for a message that does not begin where the upload stands, InvalidInput for bytes
        with another digest (the upload then begins again at 0), Conflict if a newer stream took over.
        """
        record = await self._threads.run(self._records.get, upload)
        older = self._streams.get(upload)
        stream = asyncio.create_task(self._stream(record, older, messages))
        self._streams[upload] = stream
        try:
            await stream
        except asyncio.CancelledError:
            if self._streams.get(upload) in (stream, None):
                raise  # it was the caller who went away
            raise Conflict(f"uploads/{upload}: a newer stream took over: ask how far it is and go on there") from None
        finally:
            if self._streams.get(upload) is stream:
                del self._streams[upload]
        return await self._state(await self._keep(record))

    async def _stream(
        self,
        record: UploadRecord,
        older: "asyncio.Task[None] | None",
        messages: AsyncIterator[UploadArtifactRequest],
    ) -> None:
        if older is not None:
            older.cancel()
            await asyncio.wait([older])
        if await self._threads.run(self._store.size, record.digest) == record.size:
            return
        opened: list[Partial] = []  # a cancelled call that opened it would have nowhere else to leave it
        result = "failed"
        try:
            await self._threads.run(lambda: opened.append(self._store.open(record.id)))
            result = await self._write(record, opened[0], messages)
        except InvalidInput as error:
            result = "mismatch" if error.reason == "DIGEST_MISMATCH" else result
            raise
        finally:
            self._ended.labels(result).inc()
            for partial in opened:
                await self._threads.run(partial.close)  # durable, so that it can be taken up again

    async def _write(
        self, record: UploadRecord, partial: Partial, messages: AsyncIterator[UploadArtifactRequest]
    ) -> str:
        received = self._received.labels("in")
        async for message in messages:
            _check_place(record, message, partial.received)
            await self._threads.run(partial.append, message.data)
            received.inc(len(message.data))
            if partial.received == record.size:
                break
        if partial.received < record.size:
            return "partial"
        await self._threads.run(partial.commit, record.digest)
        return "complete"

    async def _keep(self, record: UploadRecord) -> UploadRecord:
        kept = UploadRecord(record.id, record.digest, record.size, self._now() + self._ttl)
        await self._threads.run(self._records.put, kept)
        return kept

    async def sweep(self) -> int:
        """Throws away the uploads that nobody went on with, and returns how many."""
        swept = 0
        for record in await self._threads.run(self._records.expired, self._now()):
            if record.id in self._streams:
                await self._keep(record)
                continue
            await self._threads.run(self._store.discard, record.id)  # first the bytes: the record leads back to them
            await self._threads.run(self._records.forget, record.id)
            swept += 1
        return swept

    async def sweep_forever(self, clock: Clock, interval: float) -> None:
        """Sweeps every `interval` seconds until cancelled; a sweep that fails is logged and tried again."""
        while True:
            await clock.sleep(interval)
            try:
                swept = await self.sweep()
            except (MeshError, OSError) as error:
                self._log.warning("sweep failed", error=str(error))
            else:
                self._log.debug("swept", uploads=swept)


def _check_place(record: UploadRecord, message: UploadArtifactRequest, stands: int) -> None:
    if message.name and message.name != f"uploads/{record.id}":
        raise InvalidInput(f"name: expected uploads/{record.id} in every message of a stream, got {message.name!r}")
    metadata = {"received_bytes": str(stands), "offset": str(message.offset)}
    if message.offset != stands:
        raise OutOfRange(
            f"offset: uploads/{record.id} stands at {stands}, got {message.offset}: go on where it stands",
            metadata=metadata,
        )
    if stands + len(message.data) > record.size:
        raise OutOfRange(
            f"data: uploads/{record.id} has {record.size} bytes, got {stands + len(message.data)}", metadata=metadata
        )
