"""What a process keeps for its next life."""

import os
from pathlib import Path

import pytest

from infermesh.mesh.kept_file import KeptFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "kept"


def test_gives_back_what_was_written_last(path: Path) -> None:
    KeptFile(path).write(b"first")
    KeptFile(path).write(b"second\nwith\x00anything")
    assert KeptFile(path).read() == b"second\nwith\x00anything"
    assert [entry.name for entry in path.parent.iterdir()] == ["kept"]


def test_nothing_was_written(path: Path) -> None:
    assert KeptFile(path).read() is None


@pytest.mark.parametrize("cut", [0, 1, 20, 60, 82, 88])
def test_half_of_it_is_nothing(path: Path, cut: int) -> None:
    KeptFile(path).write(b"content")
    path.write_bytes(path.read_bytes()[:cut])
    assert KeptFile(path).read() is None


def test_a_bit_that_has_turned_is_noticed(path: Path) -> None:
    KeptFile(path).write(b"content")
    damaged = bytearray(path.read_bytes())
    damaged[-3] ^= 1
    path.write_bytes(damaged)
    assert KeptFile(path).read() is None


def test_what_is_no_file_is_nothing(path: Path) -> None:
    path.mkdir(parents=True)
    assert KeptFile(path).read() is None


def test_a_crash_while_writing_leaves_the_old_content(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    KeptFile(path).write(b"old")

    def crash(descriptor: int) -> None:
        raise OSError("the power is gone")

    monkeypatch.setattr(os, "fsync", crash)
    with pytest.raises(OSError, match="power"):
        KeptFile(path).write(b"new")
    assert KeptFile(path).read() == b"old"


def test_the_content_is_on_the_disk_before_its_name_is(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    sync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: (order.append("fsync"), sync(descriptor))[1])
    monkeypatch.setattr(Path, "replace", lambda self, to: (order.append("replace"), replace(self, to))[1])
    KeptFile(path).write(b"content")
    assert order == ["fsync", "replace", "fsync"]
