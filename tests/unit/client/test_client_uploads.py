"""Uploads: resumed after cuts, given up in the end, flat in memory."""

import tracemalloc
from pathlib import Path

import pytest

from infermesh import errors
from infermesh.client import AsyncClient, signature
from infermesh.client.uploads import MOST_CUTS, PIECE, measure
from tests.unit.client.fake_mesh import FakeMesh

SIGNATURE = signature({"x": ("FP32", [-1, 4])}, {"y": ("FP32", [-1, 2])})
SIZE = 5 * PIECE + 17
CONTENT = bytes(range(256)) * (SIZE // 256) + bytes(SIZE % 256)


@pytest.fixture
def big(tmp_path: Path) -> Path:
    path = tmp_path / "big.pt"
    path.write_bytes(CONTENT)
    return path


async def test_goes_on_where_the_cut_left_it(client: AsyncClient, mesh: FakeMesh, big: Path) -> None:
    mesh.artifacts.cuts = [2 * PIECE, PIECE]
    seen: list[int] = []
    await client.push("m", big, signature=SIGNATURE, progress=lambda done, total: seen.append(done))
    assert mesh.artifacts.streams[:3] == [0, 2 * PIECE, 3 * PIECE]
    assert mesh.artifacts.received == SIZE
    assert list(mesh.artifacts.files.values()) == [CONTENT]
    assert seen[-1] == SIZE


async def test_bytes_that_were_not_kept_are_sent_again(client: AsyncClient, mesh: FakeMesh, big: Path) -> None:
    mesh.artifacts.cuts = [3 * PIECE]
    mesh.artifacts.lost_after_cut = PIECE // 2
    await client.push("m", big, signature=SIGNATURE)
    assert mesh.artifacts.streams == [0, 3 * PIECE - PIECE // 2]
    assert list(mesh.artifacts.files.values()) == [CONTENT]


async def test_cuts_without_progress_are_given_up(client: AsyncClient, mesh: FakeMesh, big: Path) -> None:
    mesh.artifacts.cuts = [1] * 100
    mesh.artifacts.lost_after_cut = PIECE
    with pytest.raises(errors.NotReady, match="the stream was cut"):
        await client.push("m", big, signature=SIGNATURE)
    assert len(mesh.artifacts.streams) == MOST_CUTS + 1
    assert not mesh.models.versions


async def test_a_refusal_in_the_middle_arrives_as_such(client: AsyncClient, mesh: FakeMesh, big: Path) -> None:
    mesh.artifacts.cuts = [1] * 100
    mesh.artifacts.cut_error = errors.FailedPrecondition("the disk is full")
    with pytest.raises(errors.FailedPrecondition, match="the disk is full"):
        await client.push("m", big, signature=SIGNATURE)


async def test_a_partial_upload_of_before_is_taken_up(client: AsyncClient, mesh: FakeMesh, big: Path) -> None:
    file = measure("big.pt", big)
    name = "uploads/" + file.digest[-12:]
    mesh.artifacts.partial[name] = bytearray(CONTENT[: 2 * PIECE])
    await client.push("m", big, signature=SIGNATURE)
    assert mesh.artifacts.streams == [2 * PIECE]


async def test_a_registry_that_swallows_bytes_is_not_fed_for_ever(
    client: AsyncClient, mesh: FakeMesh, tmp_path: Path
) -> None:
    small = tmp_path / "small.pt"
    small.write_bytes(b"x")
    mesh.artifacts.swallow = True
    with pytest.raises(errors.DataLoss, match="did not complete"):
        await client.push("m", small, signature=SIGNATURE)


async def test_an_empty_file_is_a_file(client: AsyncClient, mesh: FakeMesh, tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"x")
    (tmp_path / "empty.txt").write_bytes(b"")
    version = await client.push("m", tmp_path, signature=SIGNATURE)
    assert [file.size_bytes for file in version.files] == [0, 1]
    assert b"" in mesh.artifacts.files.values()


async def test_a_file_that_changes_meanwhile_is_refused(client: AsyncClient, mesh: FakeMesh, big: Path) -> None:
    def shrink(done: int, total: int) -> None:
        if done == PIECE:
            big.write_bytes(b"short")

    with pytest.raises(errors.DataLoss, match="shorter"):
        await client.push("m", big, signature=SIGNATURE, progress=shrink)
    assert not mesh.models.versions


def test_measuring_reads_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(32 * 1024 * 1024)
    tracemalloc.start()
    try:
        measured = measure("large", path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert measured.size == 32 * 1024 * 1024
    assert peak < 2 * 1024 * 1024


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(errors.InvalidInput, match="not there"):
        measure("gone.pt", tmp_path / "not there")
