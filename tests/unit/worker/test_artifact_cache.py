"""The cache: content-addressed, verified, resumed, bounded, never out of its folder."""

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from infermesh.errors import ConfigError, DataLoss, InvalidInput, LoadFailed, NotReady
from infermesh.v1 import model_pb2
from infermesh.worker.artifacts import ArtifactCache


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Store:
    """Files to download from; can break, lie, and counts."""

    def __init__(self, *files: bytes) -> None:
        self.files = {digest_of(data): data for data in files}
        self.asked: list[tuple[str, int]] = []
        self.break_after: int | None = None

    async def download(self, digest: str, offset: int) -> AsyncIterator[bytes]:
        self.asked.append((digest, offset))
        data = self.files[digest][offset:]
        for at in range(0, len(data), 4):
            if self.break_after is not None and at >= self.break_after:
                raise NotReady("the wire broke")
            yield data[at : at + 4]


def version_of(**files: bytes) -> model_pb2.ModelVersion:
    version = model_pb2.ModelVersion(digest=digest_of(repr(files).encode()))
    for path, data in files.items():
        version.files.add(path=path.replace("__", "/"), digest=digest_of(data), size_bytes=len(data))
    return version


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[ArtifactCache]:
    with contextlib.closing(ArtifactCache(tmp_path / "cache")) as made:
        yield made


@pytest.fixture
def small_cache(tmp_path: Path) -> Iterator[ArtifactCache]:
    with contextlib.closing(ArtifactCache(tmp_path / "cache", limit=25)) as made:
        yield made


def blobs(root: Path) -> set[str]:
    return {path.name for path in (root / "cache" / "blobs").iterdir()}


async def test_files_are_laid_out_under_their_paths_and_fetched_once(cache: ArtifactCache, tmp_path: Path) -> None:
    store, version = Store(b"one", b"other"), version_of(model=b"one", deep__down__file=b"other", again=b"one")
    async with cache.folder(version, store.download) as folder:
        assert (folder / "model").read_bytes() == b"one"
        assert (folder / "again").read_bytes() == b"one"
        assert (folder / "deep" / "down" / "file").read_bytes() == b"other"
        assert not any(path.is_symlink() for path in folder.rglob("*"))
        async with cache.folder(version, store.download) as second:
            assert second != folder
        assert (folder / "model").exists(), "the other user's end does not matter"
    assert not folder.exists()
    assert len(store.asked) == 2
    assert len(blobs(tmp_path)) == 2


async def test_a_broken_download_is_taken_up_where_it_broke(cache: ArtifactCache) -> None:
    data = bytes(range(100))
    store, version = Store(data), version_of(model=data)
    store.break_after = 40
    with pytest.raises(NotReady):
        async with cache.folder(version, store.download):
            pytest.fail("there is nothing to use yet")
    store.break_after = None
    async with cache.folder(version, store.download) as folder:
        assert (folder / "model").read_bytes() == data
    assert [offset for _, offset in store.asked] == [0, 40]


async def test_a_download_that_ends_early_is_tried_again_later(cache: ArtifactCache) -> None:
    store, version = Store(b"whole"), version_of(model=b"whole")
    store.files[digest_of(b"whole")] = b"who"
    with pytest.raises(NotReady, match="ended at 3"):
        async with cache.folder(version, store.download):
            pass
    store.files[digest_of(b"whole")] = b"whole"
    async with cache.folder(version, store.download) as folder:
        assert (folder / "model").read_bytes() == b"whole"


@pytest.mark.parametrize("lie", [b"evil!", b"right and more"])
async def test_other_bytes_than_promised_are_never_used(cache: ArtifactCache, tmp_path: Path, lie: bytes) -> None:
    store, version = Store(b"right"), version_of(model=b"right")
    store.files[digest_of(b"right")] = lie
    with pytest.raises(DataLoss, match="'model'"):
        async with cache.folder(version, store.download):
            pytest.fail("bytes with another digest were offered")
    assert not blobs(tmp_path)
    store.files[digest_of(b"right")] = b"right"
    async with cache.folder(version, store.download) as folder:
        assert (folder / "model").read_bytes() == b"right", "the lie was not kept for resuming"


async def test_a_cached_file_is_verified_before_it_is_used_again(cache: ArtifactCache, tmp_path: Path) -> None:
    store, version = Store(b"right"), version_of(model=b"right")
    async with cache.folder(version, store.download):
        pass
    (blob,) = (tmp_path / "cache" / "blobs").iterdir()
    blob.chmod(0o644)
    blob.write_bytes(b"wrong")
    async with cache.folder(version, store.download) as folder:
        assert (folder / "model").read_bytes() == b"right"
    assert len(store.asked) == 2


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../up", "a/../../up", "a//b", "./a", "a/.", "a\\b", "a\0b", "a/"])
async def test_paths_that_could_leave_the_folder_are_refused(cache: ArtifactCache, path: str) -> None:
    version = version_of(model=b"x")
    version.files[0].path = path
    with pytest.raises(LoadFailed, match="relative path"):
        async with cache.folder(version, Store(b"x").download):
            pass


async def test_a_digest_that_is_none_is_refused(cache: ArtifactCache) -> None:
    version = version_of(model=b"x")
    version.files[0].digest = "sha256:../../etc/passwd"
    with pytest.raises(InvalidInput):
        async with cache.folder(version, Store(b"x").download):
            pass


async def test_the_least_recently_used_goes_first_and_what_is_in_use_stays(
    small_cache: ArtifactCache, tmp_path: Path
) -> None:
    cache = small_cache
    datas = [bytes([number]) * 10 for number in range(4)]
    store, versions = Store(*datas), [version_of(model=data) for data in datas]
    for at in (0, 1):
        async with cache.folder(versions[at], store.download):
            pass
        age = 1_000_000_000 + at
        os.utime(tmp_path / "cache" / "blobs" / digest_of(datas[at])[7:], (age, age))
    async with cache.folder(versions[0], store.download):  # used again: now the younger one
        pass
    async with cache.folder(versions[2], store.download):
        assert blobs(tmp_path) == {digest_of(datas[at])[7:] for at in (0, 2)}
        async with cache.folder(versions[0], store.download):
            with pytest.raises(LoadFailed, match="limit of 25"):
                async with cache.folder(versions[3], store.download):
                    pass
        async with cache.folder(versions[3], store.download):
            assert blobs(tmp_path) == {digest_of(datas[at])[7:] for at in (2, 3)}


async def test_two_versions_that_share_a_file_fetch_it_once(cache: ArtifactCache) -> None:
    store = Store(b"shared", b"a", b"b")

    async def use(version: model_pb2.ModelVersion) -> None:
        async with cache.folder(version, store.download):
            await asyncio.sleep(0)

    await asyncio.gather(use(version_of(x=b"shared", y=b"a")), use(version_of(x=b"shared", y=b"b")))
    assert sorted(digest for digest, _ in store.asked) == sorted(map(digest_of, (b"shared", b"a", b"b")))


async def test_a_cancelled_fetch_leaves_nothing_in_use_and_can_be_taken_up(small_cache: ArtifactCache) -> None:
    cache = small_cache
    data, began = bytes(8), asyncio.Event()

    async def hanging(digest: str, offset: int) -> AsyncIterator[bytes]:
        yield data[:4]
        began.set()
        await asyncio.Event().wait()

    async def use() -> None:
        async with cache.folder(version_of(model=data), hanging):
            pass

    task = asyncio.create_task(use())
    await began.wait()
    task.cancel()
    await asyncio.wait({task})
    store = Store(data)
    async with cache.folder(version_of(model=data), store.download):
        assert store.asked == [(digest_of(data), 4)]


async def test_what_a_killed_process_laid_out_is_cleared_away(tmp_path: Path) -> None:
    left = tmp_path / "cache" / "versions" / "old"
    left.mkdir(parents=True)
    ArtifactCache(tmp_path / "cache").close()
    assert not left.exists()


def test_one_folder_has_one_user(cache: ArtifactCache, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="another worker"):
        ArtifactCache(tmp_path / "cache", patience=0.0)
    cache.close()
    ArtifactCache(tmp_path / "cache").close()


def test_a_folder_that_can_not_be_used_is_a_bad_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cache"):
        ArtifactCache(tmp_path / "file" / "cache")
