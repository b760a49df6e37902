"""The contract of the artifact store, run on the folder store and on its fake."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from infermesh.errors import DataLoss, InvalidInput, NotFound, OutOfRange
from infermesh.registry.artifacts.base import ArtifactStore
from infermesh.registry.artifacts.folder import FolderStore
from infermesh.registry.artifacts.memory import MemoryStore
from tests.unit.registry.messages import digest

LARGE = os.urandom(2**20) * 2 + b"tail"
Damage = Callable[[str], None]


@pytest.fixture(params=["folder", "memory"])
def kind(request: pytest.FixtureRequest) -> str:
    """The implementation under test."""
    return str(request.param)


@pytest.fixture
def store(kind: str, tmp_path: Path) -> ArtifactStore:
    """An empty store."""
    return FolderStore(str(tmp_path / "artifacts")) if kind == "folder" else MemoryStore()


@pytest.fixture
def damage(store: ArtifactStore, tmp_path: Path) -> Damage:
    """Flips the first byte of a stored file."""

    def flip(name: str) -> None:
        if isinstance(store, MemoryStore):
            data = store.finished[name]
            store.finished[name] = bytes([data[0] ^ 1]) + data[1:]
            return
        path = tmp_path / "artifacts" / "sha256" / name[7:9] / name[7:]
        path.chmod(0o644)
        data = path.read_bytes()
        path.write_bytes(bytes([data[0] ^ 1]) + data[1:])

    return flip


def put(store: ArtifactStore, data: bytes, upload: str = "u1") -> str:
    """Stores a file and returns its digest."""
    partial = store.open(upload)
    partial.append(data)
    partial.commit(digest(data))
    return digest(data)


@pytest.mark.parametrize("data", [b"", b"x", LARGE], ids=["empty", "small", "large"])
def test_what_goes_in_comes_out(store: ArtifactStore, data: bytes) -> None:
    assert store.size(digest(data)) is None
    name = put(store, data)
    assert store.size(name) == len(data)
    assert b"".join(store.read(name, 0)) == data
    assert store.received("u1") == 0


@pytest.mark.parametrize("offset", [1, 2**20 - 1, 2**20, 2**20 + 1, len(LARGE) - 1, len(LARGE)])
def test_a_file_can_be_read_from_any_place(store: ArtifactStore, offset: int) -> None:
    assert b"".join(store.read(put(store, LARGE), offset)) == LARGE[offset:]


@pytest.mark.parametrize("offset", [-1, len(LARGE) + 1])
def test_there_is_nothing_beyond_the_ends(store: ArtifactStore, offset: int) -> None:
    name = put(store, LARGE)
    with pytest.raises(OutOfRange):
        list(store.read(name, offset))


def test_an_unknown_digest_is_not_found(store: ArtifactStore) -> None:
    with pytest.raises(NotFound):
        list(store.read(digest(b"never"), 0))


def test_a_partial_file_is_taken_up_where_it_stands(store: ArtifactStore) -> None:
    first = store.open("u1")
    first.append(LARGE[:1000])
    assert first.received == 1000
    first.close()
    first.close()
    assert store.received("u1") == 1000
    second = store.open("u1")
    assert second.received == 1000
    second.append(LARGE[1000:])
    second.commit(digest(LARGE))
    second.close()
    assert b"".join(store.read(digest(LARGE), 0)) == LARGE


def test_wrong_bytes_are_thrown_away(store: ArtifactStore) -> None:
    partial = store.open("u1")
    partial.append(b"wrong")
    with pytest.raises(InvalidInput) as caught:
        partial.commit(digest(b"right"))
    partial.close()
    assert caught.value.metadata == {"expected": digest(b"right"), "got": digest(b"wrong")}
    assert store.received("u1") == 0
    assert store.size(digest(b"right")) is None
    assert store.size(digest(b"wrong")) is None
    assert put(store, b"right") == digest(b"right")


def test_two_uploads_of_one_file_both_end_well(store: ArtifactStore) -> None:
    one, other = store.open("u1"), store.open("u2")
    for partial in (one, other):
        partial.append(b"same")
    one.commit(digest(b"same"))
    other.commit(digest(b"same"))
    assert b"".join(store.read(digest(b"same"), 0)) == b"same"


def test_a_discarded_partial_file_is_gone(store: ArtifactStore) -> None:
    partial = store.open("u1")
    partial.append(b"some")
    partial.close()
    store.discard("u1")
    store.discard("u1")
    assert store.received("u1") == 0
    again = store.open("u1")
    assert again.received == 0
    again.close()


@pytest.mark.parametrize("data", [b"small", LARGE], ids=["small", "large"])
@pytest.mark.parametrize("offset", [0, 3])
def test_damage_is_noticed_before_the_last_bytes_are_out(
    store: ArtifactStore, damage: Damage, data: bytes, offset: int
) -> None:
    name = put(store, data)
    damage(name)
    got: list[bytes] = []
    with pytest.raises(DataLoss) as caught:
        got.extend(store.read(name, offset))
    assert len(b"".join(got)) < len(data) - offset
    assert caught.value.metadata["expected"] == name


def test_a_damaged_file_counts_as_missing_until_it_is_uploaded_again(store: ArtifactStore, damage: Damage) -> None:
    name = put(store, LARGE)
    damage(name)
    with pytest.raises(DataLoss):
        list(store.read(name, 0))
    assert store.size(name) is None
    put(store, LARGE, "u2")
    assert store.size(name) == len(LARGE)
    assert b"".join(store.read(name, 0)) == LARGE
