"""Artifacts in memory: the verified fake of the store, for tests. Nothing survives; no setting chooses it."""

import hashlib
from collections.abc import Iterator

from infermesh.errors import DataLoss, InvalidInput, NotFound, OutOfRange

_PIECE = 2**20


class MemoryStore:
    """Keeps artifacts in dictionaries; see `base.ArtifactStore`."""

    def __init__(self) -> None:
        self.finished: dict[str, bytes] = {}
        self.partial: dict[str, bytearray] = {}
        self.damaged: set[str] = set()

    def size(self, digest: str) -> int | None:
        """See `base.ArtifactStore.size`."""
        return None if digest in self.damaged or digest not in self.finished else len(self.finished[digest])

    def read(self, digest: str, offset: int) -> Iterator[bytes]:
        """See `base.ArtifactStore.read`."""
        if digest not in self.finished:
            raise NotFound.of("artifact", digest, "upload it")
        data = self.finished[digest]
        if not 0 <= offset <= len(data):
            raise OutOfRange(f"offset: expected 0 to {len(data)}, got {offset}", metadata={"size": str(len(data))})
        pieces = [data[at : at + _PIECE] for at in range(offset, len(data), _PIECE)]
        yield from pieces[:-1]
        got = "sha256:" + hashlib.sha256(data).hexdigest()
        if got != digest:
            self.damaged.add(digest)
            raise DataLoss(f"the stored file {digest} is damaged", metadata={"expected": digest, "got": got})
        yield from pieces[-1:]

    def received(self, upload: str) -> int:
        """See `base.ArtifactStore.received`."""
        return len(self.partial.get(upload, b""))

    def open(self, upload: str) -> "MemoryPartial":
        """See `base.ArtifactStore.open`."""
        return MemoryPartial(self, upload)

    def discard(self, upload: str) -> None:
        """See `base.ArtifactStore.discard`."""
        self.partial.pop(upload, None)


class MemoryPartial:
    """See `base.Partial`."""

    def __init__(self, store: MemoryStore, upload: str) -> None:
        self._store = store
        self._upload = upload
        self._data = store.partial.setdefault(upload, bytearray())

    @property
    def received(self) -> int:
        """See `base.Partial.received`."""
        return len(self._data)

    def append(self, data: bytes) -> None:
        """See `base.Partial.append`."""
        self._data += data

    def commit(self, digest: str) -> None:
        """See `base.Partial.commit`."""
        self._store.discard(self._upload)
        got = "sha256:" + hashlib.sha256(self._data).hexdigest()
        if got != digest:
            metadata = {"expected": digest, "got": got}
            raise InvalidInput(f"expected {digest}, got {got}", metadata=metadata, reason="DIGEST_MISMATCH")
        self._store.finished[digest] = bytes(self._data)
        self._store.damaged.discard(digest)

    def close(self) -> None:
        """See `base.Partial.close`."""
