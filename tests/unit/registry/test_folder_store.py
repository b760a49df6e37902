"""What the folder store promises beyond the contract: places, modes, durability, a full disk."""

import errno
import os
from pathlib import Path

import pytest

from infermesh.errors import ConfigError, Overloaded
from infermesh.registry.artifacts import open_store
from infermesh.registry.artifacts.folder import FolderStore
from tests.unit.registry.messages import digest


def put(store: FolderStore, data: bytes) -> str:
    """Stores a file and returns its digest."""
    partial = store.open("u1")
    partial.append(data)
    partial.commit(digest(data))
    return digest(data)


def test_files_are_spread_by_digest_and_nobody_may_write_to_them(tmp_path: Path) -> None:
    name = put(FolderStore(str(tmp_path)), b"data")
    path = tmp_path / "sha256" / name[7:9] / name[7:]
    assert path.read_bytes() == b"data"
    assert path.stat().st_mode & 0o777 == 0o444
    assert list((tmp_path / "partial").iterdir()) == []


def test_a_store_opened_again_has_what_it_had(tmp_path: Path) -> None:
    first = FolderStore(str(tmp_path))
    name = put(first, b"data")
    partial = first.open("u2")
    partial.append(b"ha")
    partial.close()
    again = FolderStore(str(tmp_path))
    assert again.size(name) == 4
    assert again.received("u2") == 2
    resumed = again.open("u2")
    resumed.append(b"lf")
    resumed.commit(digest(b"half"))
    assert b"".join(again.read(digest(b"half"), 0)) == b"half"


def test_content_reaches_the_disk_before_its_name_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, calls = FolderStore(str(tmp_path)), []
    put(store, b"earlier")  # its two folders are there now
    fsync, replace = os.fsync, Path.replace

    def logged_fsync(descriptor: int) -> None:
        calls.append(("fsync", os.path.realpath(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    def logged_replace(source: Path, target: Path) -> Path:
        calls.append(("rename", str(target)))
        return replace(source, target)

    monkeypatch.setattr(os, "fsync", logged_fsync)
    monkeypatch.setattr(Path, "replace", logged_replace)
    name = put(store, b"data")
    target = tmp_path / "sha256" / name[7:9] / name[7:]
    content, rename = ("fsync", str(tmp_path / "partial" / "u1")), ("rename", str(target))
    assert calls.index(content) < calls.index(rename) < calls.index(("fsync", str(target.parent)), calls.index(rename))


def test_a_full_disk_is_overload_and_the_upload_goes_on_where_it_stood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FolderStore(str(tmp_path))
    partial = store.open("u1")
    partial.append(b"first ")

    class Full:
        closed = False

        def write(self, data: bytes) -> int:
            with (tmp_path / "partial" / "u1").open("ab") as file:
                file.write(data[:2])  # some of it may have made it
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self) -> None:
            """Nothing to close."""

    partial.close()
    monkeypatch.setattr(partial, "_file", Full())
    with pytest.raises(Overloaded, match="disk is full"):
        partial.append(b"second")
    assert store.received("u1") == 6
    partial.append(b"second")
    partial.commit(digest(b"first second"))
    assert store.size(digest(b"first second")) == 12


def test_a_setting_chooses_the_store(tmp_path: Path) -> None:
    for setting in (str(tmp_path / "a"), f"folder:{tmp_path / 'b'}", f"{tmp_path}/odd:name"):
        assert isinstance(open_store(setting), FolderStore)
    assert (tmp_path / "odd:name" / "partial").is_dir()
    with pytest.raises(ConfigError, match="'ftp'"):
        open_store("ftp:somewhere")


def test_a_folder_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="file/below"):
        FolderStore(str(tmp_path / "file" / "below"))
