"""Artifacts in a folder: `sha256/ab/<64 digits>` for finished files, `partial/<upload>` for those on their way.

What is acknowledged is on the disk: a file is written under `partial`, fsynced, renamed (both are on one file system)
and its folder fsynced. A finished file never changes; one that is found damaged gets a `.damaged` mark beside it,
counts as missing from then on, and is replaced by the next upload of it.
"""

import contextlib
import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from infermesh.errors import ConfigError, DataLoss, InvalidInput, NotFound, OutOfRange, Overloaded

_PIECE: Final = 2**20
_FINISHED_MODE: Final = 0o444  # nobody writes to a finished file
_FOLDER_MODE: Final = 0o755
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class FolderStore:
    """Keeps artifacts in a folder; see `base.ArtifactStore`."""

    def __init__(self, folder: str) -> None:
        """Makes the folder if it is missing. Raises ConfigError if it can't be written to."""
        self._root = Path(folder)
        try:
            for part in (self._root, self._root / "sha256", self._root / "partial"):
                part.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
                _sync_folder(part.parent)
        except OSError as error:
            raise ConfigError(f"artifacts: can't use the folder {folder}: {error.strerror}") from error
        if not os.access(self._root / "partial", os.W_OK):
            raise ConfigError(f"artifacts: can't write to the folder {folder}")

    def size(self, digest: str) -> int | None:
        """See `base.ArtifactStore.size`."""
        path = self._path(digest)
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            return None
        return None if _mark(path).exists() else size

    def read(self, digest: str, offset: int) -> Iterator[bytes]:
        """See `base.ArtifactStore.read`."""
        path = self._path(digest)
        try:
            file = path.open("rb")
        except FileNotFoundError:
            raise NotFound.of("artifact", digest, "upload it") from None
        with file:
            size = os.fstat(file.fileno()).st_size
            if not 0 <= offset <= size:
                raise OutOfRange(f"offset: expected 0 to {size}, got {offset}", metadata={"size": str(size)})
            yield from self._verified(path, file, offset)

    def _verified(self, path: Path, file: BinaryIO, offset: int) -> Iterator[bytes]:
        hasher, at, held = hashlib.sha256(), 0, b""
        while piece := file.read(_PIECE):
            hasher.update(piece)
            if held:
                yield held
            held = piece[max(0, offset - at) :]  # what lies before the offset is hashed, not sent
            at += len(piece)
        if hasher.hexdigest() != path.name:
            _mark(path).touch()
            digest = f"sha256:{path.name}"
            raise DataLoss(
                f"the stored file {digest} is damaged (it has sha256:{hasher.hexdigest()}): upload it again",
                metadata={"expected": digest, "got": f"sha256:{hasher.hexdigest()}"},
            )
        if held:
            yield held

    def received(self, upload: str) -> int:
        """See `base.ArtifactStore.received`."""
        try:
            descriptor = os.open(self._partial(upload), os.O_RDONLY)
        except FileNotFoundError:
            return 0
        try:
            os.fsync(descriptor)
            return os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)

    def open(self, upload: str) -> "FolderPartial":
        """See `base.ArtifactStore.open`."""
        return FolderPartial(self, self._partial(upload))

    def discard(self, upload: str) -> None:
        """See `base.ArtifactStore.discard`."""
        self._partial(upload).unlink(missing_ok=True)

    def adopt(self, partial: Path, digest: str) -> None:
        """Moves a durable partial file to its place among the finished ones; for `FolderPartial` only."""
        target = self._path(digest)
        if not target.parent.is_dir():
            target.parent.mkdir(mode=_FOLDER_MODE, exist_ok=True)
            _sync_folder(target.parent.parent)
        partial.chmod(_FINISHED_MODE)
        partial.replace(target)  # the same content may be there already, or damaged: either way this one is right
        _mark(target).unlink(missing_ok=True)
        _sync_folder(target.parent)

    def _path(self, digest: str) -> Path:
        name = digest.removeprefix("sha256:")
        return self._root / "sha256" / name[:2] / name

    def _partial(self, upload: str) -> Path:
        return self._root / "partial" / upload


class FolderPartial:
    """A file under `partial`; see `base.Partial`. Its content is hashed as it comes, and again when it is reopened."""

    def __init__(self, store: FolderStore, path: Path) -> None:
        self._store = store
        self._path = path
        new = not path.exists()
        self._file = path.open("ab")
        if new:
            _sync_folder(path.parent)
        self._received, self._hasher = 0, hashlib.sha256()
        if not new:
            self._rehash()

    def _rehash(self) -> None:
        with self._path.open("rb") as file:
            while piece := file.read(_PIECE):
                self._hasher.update(piece)
                self._received += len(piece)

    @property
    def received(self) -> int:
        """See `base.Partial.received`."""
        return self._received

    def append(self, data: bytes) -> None:
        """See `base.Partial.append`."""
        try:
            self._file.write(data)
            self._file.flush()
        except OSError as error:
            self._forget_tail()
            if error.errno in _FULL:
                raise Overloaded("the registry's disk is full: make room, then go on with the upload") from error
            raise
        self._hasher.update(data)
        self._received += len(data)

    def _forget_tail(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()  # tries to write what it still holds, and drops it
        self._file = self._path.open("ab")
        self._file.truncate(self._received)

    def commit(self, digest: str) -> None:
        """See `base.Partial.commit`."""
        got = f"sha256:{self._hasher.hexdigest()}"
        self.close()
        if got != digest:
            self._path.unlink(missing_ok=True)
            raise InvalidInput(
                f"the uploaded bytes have another digest: expected {digest}, got {got}; the upload begins again at 0",
                metadata={"expected": digest, "got": got},
                reason="DIGEST_MISMATCH",
            )
        self._store.adopt(self._path, digest)

    def close(self) -> None:
        """See `base.Partial.close`."""
        if self._file.closed:
            return
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()


def _mark(path: Path) -> Path:
    return path.with_name(path.name + ".damaged")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
