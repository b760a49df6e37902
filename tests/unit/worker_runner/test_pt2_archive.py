"""Archives are copied record by record, and only what is needed."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from infermesh.errors import LoadFailed
from infermesh.worker.backends.pt2_archive import copy_safely

META = {"path_name": "weight_0", "is_param": True, "use_pickle": False, "tensor_meta": None}
RECORDS: dict[str, bytes] = {
    "archive_format": b"pt2",
    "archive_version": b"0",
    "byteorder": b"little",
    "models/model.json": json.dumps({"graph_module": {"graph": {}}}).encode(),
    "data/weights/model_weights_config.json": json.dumps({"config": {"net.0.weight": META}}).encode(),
    "data/weights/weight_0": b"\0" * 40,
    "data/constants/model_constants_config.json": json.dumps({"config": {}}).encode(),
    "data/sample_inputs/model.pt": b"evil",
    "extra/notes": b"evil",
    "data/weights/unused": b"evil",
}


def written(folder: Path, root: str = "digits", compress: int = zipfile.ZIP_STORED, **changes: Any) -> Path:
    path = folder / "digits.pt2"
    with zipfile.ZipFile(path, "w", compress) as archive:
        for name, content in {**RECORDS, **changes}.items():
            if content is not None:
                archive.writestr(f"{root}/{name}", content)
    return path


def copied(source: Path, folder: Path) -> dict[str, bytes]:
    target = folder / "copy.pt2"
    copy_safely(source, target)
    with zipfile.ZipFile(target) as archive:
        return {entry.filename: archive.read(entry) for entry in archive.infolist()}


def test_only_what_is_needed_is_copied(tmp_path: Path) -> None:
    got = copied(written(tmp_path), tmp_path)
    assert got["model/data/weights/weight_0"] == RECORDS["data/weights/weight_0"]
    assert got["model/data/sample_inputs/model.pt"] == b""
    assert b"evil" not in b"".join(got.values())


def config(**meta: Any) -> bytes:
    return json.dumps({"config": {"net.0.weight": {**META, **meta}}}).encode()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"archive_format": b"zip"}, "archive_format"),
        ({"archive_format": None}, "archive_format"),
        ({"models/model.json": None}, "expected one program"),
        ({"models/other.json": b"{}"}, "expected one program"),
        ({"models/model.json": b"{"}, "not JSON"),
        ({"data/aotinductor/model/x.so": b""}, "native code"),
        ({"data/weights/weight_0": None}, "weight_0 is missing"),
        ({"data/weights/model_weights_config.json": None}, "model_weights_config.json is missing"),
        ({"data/weights/model_weights_config.json": config(use_pickle=True)}, "stored as a pickle"),
        ({"data/weights/model_weights_config.json": config(use_pickle=None)}, "stored as a pickle"),
        ({"data/weights/model_weights_config.json": config(path_name="../../x")}, "stored as a pickle"),
        ({"data/weights/model_weights_config.json": config(path_name="weight_0\n")}, "stored as a pickle"),
        ({"data/constants/model_constants_config.json": config(path_name="custom_obj_0")}, "stored as a pickle"),
        ({"data/weights/model_weights_config.json": config(tensor_meta={"expr_str": "f()"})}, "arithmetic"),
    ],
)
def test_what_is_wrong_is_named_with_the_file(tmp_path: Path, changes: dict[str, Any], text: str) -> None:
    with pytest.raises(LoadFailed, match=rf"digits\.pt2: .*{text}"):
        copied(written(tmp_path, **changes), tmp_path)


def test_compressed_archives_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match="without compression"):
        copied(written(tmp_path, compress=zipfile.ZIP_DEFLATED), tmp_path)


def test_two_records_of_one_name_are_refused(tmp_path: Path) -> None:
    source = written(tmp_path)
    with zipfile.ZipFile(source, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("digits/byteorder", b"big")
    with pytest.raises(LoadFailed, match="no name twice"):
        copied(source, tmp_path)


def test_two_roots_are_refused(tmp_path: Path) -> None:
    source = written(tmp_path)
    with zipfile.ZipFile(source, "a") as archive:
        archive.writestr("other/x", b"")
    with pytest.raises(LoadFailed, match="one root folder"):
        copied(source, tmp_path)


def test_a_damaged_record_is_noticed(tmp_path: Path) -> None:
    source = written(tmp_path)
    content = source.read_bytes()
    source.write_bytes(content.replace(b"\0" * 40, b"\1" * 40))
    with pytest.raises(LoadFailed, match="damaged"):
        copied(source, tmp_path)


def test_old_archives_say_what_to_do(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "digits.pt2", "w") as archive:
        archive.writestr("serialized_exported_program.json", b"{}")
    with pytest.raises(LoadFailed, match="export and save it again"):
        copied(tmp_path / "digits.pt2", tmp_path)
