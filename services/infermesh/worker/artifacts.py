"""The worker's cache of artifacts, by content. Everything is verified against its digest before it is used.

    ROOT/lock               held by the one process that uses the cache
    ROOT/blobs/<hex>        whole, verified files; their access order is their modification time
    ROOT/partial/<hex>      downloads that are not complete; taken up again where they broke
    ROOT/versions/<hex>/…   the files of versions in use under their own paths: hard links to blobs, or copies
    ROOT/last-known/…       see `last_known`

Used by the agent only. Losing the folder loses nothing but time.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO

import structlog

from infermesh.errors import ConfigError, DataLoss, LoadFailed, NotReady
from infermesh.names import check_digest
from infermesh.v1 import model_pb2

Download = Callable[[str, int], AsyncIterator[bytes]]
"""Yields the bytes of the file with a digest, from an offset on."""
_CHUNK = 1 << 20


class ArtifactCache:
    """A folder of files by digest, at most `limit` bytes of them (0: any), least recently used out first.

    What a version in use needs is never evicted. Not thread-safe; blocking work goes to threads.
    """

    def __init__(self, root: Path, limit: int = 0, patience: float = 1.0) -> None:
        """Raises ConfigError if the folder can't be used, or another process uses it for longer than `patience`."""
        self._root, self._limit = root, limit
        self._uses: dict[str, int] = {}
        self._reserved: dict[str, int] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._folders = 0
        self._log = structlog.get_logger(__name__)
        try:
            for name in ("blobs", "partial", "versions"):
                (root / name).mkdir(parents=True, exist_ok=True)
            self._lock = _lock(root / "lock", patience)
        except OSError as error:
            raise ConfigError(f"cache: can't use folder {root}: {error}") from error
        shutil.rmtree(root / "versions", ignore_errors=True)  # of a process that was killed

    def close(self) -> None:
        """Lets another process use the folder."""
        self._lock.close()

    @contextlib.asynccontextmanager
    async def folder(self, version: model_pb2.ModelVersion, download: Download) -> AsyncIterator[Path]:
        """Yields a folder with the verified files of a version; they stay until the context ends.

        Raises LoadFailed if the version can never be held (unsafe path, larger than the limit), DataLoss if the bytes
        that come have another digest, and whatever `download` raises.
        """
        paths = [_safe(file.path) for file in version.files]
        digests = {check_digest(file.digest).removeprefix("sha256:"): file for file in version.files}
        for name in digests:
            self._uses[name] = self._uses.get(name, 0) + 1
        try:
            self._make_room(version)
            for name, file in digests.items():
                await self._ensure(name, file, download)
            self._folders += 1
            folder = self._root / "versions" / f"{version.digest.removeprefix('sha256:')[:16]}-{self._folders}"
            try:
                await asyncio.to_thread(self._lay_out, folder, list(zip(paths, version.files, strict=True)))
                yield folder
            finally:
                await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        finally:
            for name in digests:
                self._uses[name] -= 1
                if not self._uses[name]:
                    del self._uses[name]

    async def _ensure(self, name: str, file: model_pb2.ModelFile, download: Download) -> None:
        # two versions that share a file must not download it twice at once
        async with self._locks.setdefault(name, asyncio.Lock()):
            blob = self._root / "blobs" / name
            if blob.exists():
                if await asyncio.to_thread(_digest, blob) == name:
                    os.utime(blob)
                    return
                self._log.warning("cached file is damaged, fetching it again", digest=file.digest)
                blob.unlink()
            await self._fetch(name, file, download)

    async def _fetch(self, name: str, file: model_pb2.ModelFile, download: Download) -> None:
        partial = self._root / "partial" / name
        with partial.open("ab+") as out:
            hasher = await asyncio.to_thread(_hash_rest, out)
            if out.tell() < file.size_bytes:
                async for data in download(file.digest, out.tell()):
                    await asyncio.to_thread(_append, out, hasher, data)
            size = out.tell()
            if size < file.size_bytes:
                # what came is good so far: it is taken up again at the next try
                raise NotReady(f"file '{file.path}': expected {file.size_bytes} bytes, the download ended at {size}")
            if hasher.hexdigest() != name or size != file.size_bytes:
                partial.unlink()
                raise DataLoss(
                    f"file '{file.path}': expected {file.size_bytes} bytes with digest {file.digest}, "
                    f"got {size} with sha256:{hasher.hexdigest()}"
                )
            await asyncio.to_thread(_sync, out)
        partial.chmod(0o444)  # a version's folder holds hard links: nothing may write through them
        partial.rename(self._root / "blobs" / name)

    def _lay_out(self, folder: Path, files: Iterable[tuple[PurePosixPath, model_pb2.ModelFile]]) -> None:
        folder.mkdir(parents=True)
        for path, file in files:
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            blob = self._root / "blobs" / file.digest.removeprefix("sha256:")
            try:
                target.hardlink_to(blob)
            except OSError:
                shutil.copyfile(blob, target)  # a file system without hard links

    def _make_room(self, version: model_pb2.ModelVersion) -> None:
        """Evicts until the version's missing files fit. Raises LoadFailed if they can't."""
        if not self._limit:
            return
        wanted = {file.digest.removeprefix("sha256:"): file.size_bytes for file in version.files}
        stored = {entry.name: entry.stat() for entry in os.scandir(self._root / "blobs")}
        self._reserved = {n: s for n, s in self._reserved.items() if n in self._uses and n not in stored}
        self._reserved |= {n: s for n, s in wanted.items() if n not in stored}
        total = sum(stat.st_size for stat in stored.values()) + sum(self._reserved.values())
        idle = sorted((stat.st_mtime_ns, name) for name, stat in stored.items() if name not in self._uses)
        for _, name in idle:
            if total <= self._limit:
                return
            total -= stored[name].st_size
            (self._root / "blobs" / name).unlink()
            self._log.info("evicted", digest=f"sha256:{name}", bytes=stored[name].st_size)
        if total > self._limit:
            for name in wanted:
                self._reserved.pop(name, None)
            raise LoadFailed(
                f"cache: version needs {sum(wanted.values())} bytes, {total} with everything in use, above the limit "
                f"of {self._limit} (--cache-limit)"
            )


def _lock(path: Path, patience: float) -> IO[bytes]:
    lock = path.open("wb")
    until = time.monotonic() + patience  # a predecessor that is just going away may take a moment
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        except BlockingIOError:
            if time.monotonic() >= until:
                break
            time.sleep(0.05)
    lock.close()
    raise ConfigError(f"cache: {path.parent} is in use by another worker: give each its own folder (--cache)")


def _safe(path: str) -> PurePosixPath:
    """Returns a relative path that stays inside its folder. Raises LoadFailed."""
    parts = path.split("/")
    if not path or "\\" in path or "\0" in path or any(part in ("", ".", "..") for part in parts):
        raise LoadFailed(f"file path: expected a relative path without '.', '..' or '\\', got {path[:200]!r}")
    return PurePosixPath(path)


def _blocks(file: IO[bytes]) -> Iterator[bytes]:
    while block := file.read(_CHUNK):
        yield block


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hash_rest(out: IO[bytes]) -> "hashlib._Hash":
    """Returns the hash of what is there already; leaves the file at its end."""
    hasher = hashlib.sha256()
    out.seek(0)
    for block in _blocks(out):
        hasher.update(block)
    return hasher


def _append(out: IO[bytes], hasher: "hashlib._Hash", data: bytes) -> None:
    hasher.update(data)
    out.write(data)


def _sync(out: IO[bytes]) -> None:
    out.flush()
    os.fsync(out.fileno())
