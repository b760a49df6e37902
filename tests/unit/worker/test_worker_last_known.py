"""What a worker held in its last life."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from infermesh.errors import InvalidInput, NotReady
from infermesh.v1 import model_pb2, worker_pb2
from infermesh.worker.last_known import LastKnown, RememberingSource
from tests.unit.worker.worker_fakes import DIGEST, version_of

NAME = "models/m/versions/1"
ASSIGNMENT = worker_pb2.Assignment(deployment="d", version=NAME, digest=DIGEST)


class Registry:
    """A source that can be switched off."""

    def __init__(self) -> None:
        self.away = False
        self.asked = 0
        self.answer = version_of()

    async def version(self, name: str, digest: str) -> model_pb2.ModelVersion:
        self.asked += 1
        if self.away:
            raise NotReady("away")
        return self.answer

    async def download(self, digest: str, offset: int) -> AsyncIterator[bytes]:
        yield f"{digest} from {offset}".encode()


async def test_the_next_life_knows_the_assignments(tmp_path: Path) -> None:
    assert list(await LastKnown(tmp_path).assignments()) == []
    known = LastKnown(tmp_path)
    await known.keep([ASSIGNMENT])
    assert list(await LastKnown(tmp_path).assignments()) == [ASSIGNMENT]
    await known.keep([])
    assert list(await LastKnown(tmp_path).assignments()) == []


async def test_a_version_is_known_while_it_is_assigned(tmp_path: Path) -> None:
    known = LastKnown(tmp_path)
    await known.keep([ASSIGNMENT])
    await known.keep_version(version_of())
    assert await LastKnown(tmp_path).version(DIGEST) == version_of()
    await known.keep([])
    assert await LastKnown(tmp_path).version(DIGEST) is None


async def test_damage_is_done_without(tmp_path: Path) -> None:
    known = LastKnown(tmp_path)
    await known.keep([ASSIGNMENT])
    await known.keep_version(version_of())
    for file in (tmp_path / "assignments", tmp_path / "versions" / DIGEST.removeprefix("sha256:")):
        file.write_bytes(file.read_bytes()[:-1])
    assert list(await LastKnown(tmp_path).assignments()) == []
    assert await LastKnown(tmp_path).version(DIGEST) is None


async def test_a_folder_that_cannot_be_used_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    known = LastKnown(tmp_path / "file")
    await known.keep([ASSIGNMENT])
    await known.keep_version(version_of())
    assert list(await known.assignments()) == []


async def test_a_digest_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput):
        await LastKnown(tmp_path).version("sha256:../../secret")


async def test_the_registry_is_asked_once(tmp_path: Path) -> None:
    registry = Registry()
    assert await RememberingSource(registry, LastKnown(tmp_path)).version(NAME, DIGEST) == registry.answer
    registry.away = True
    source = RememberingSource(registry, LastKnown(tmp_path))
    assert await source.version(NAME, DIGEST) == registry.answer
    with pytest.raises(NotReady):
        await source.version(NAME, "sha256:" + "b" * 64)
    with pytest.raises(NotReady):
        await source.version("models/other/versions/1", DIGEST)
    assert registry.asked == 3


async def test_files_come_from_the_source(tmp_path: Path) -> None:
    source = RememberingSource(Registry(), LastKnown(tmp_path))
    assert [part async for part in source.download("x", 7)] == [b"x from 7"]
