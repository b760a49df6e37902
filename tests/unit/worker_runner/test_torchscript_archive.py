"""TorchScript archives are copied record by record, and their code is read before torch reads it."""

import zipfile
from pathlib import Path
from typing import Any

import pytest

from infermesh.errors import LoadFailed
from infermesh.worker.backends.torchscript_archive import copy_safely

RECORDS: dict[str, bytes] = {
    "data.pkl": b"pickle of TorchScript",
    "constants.pkl": b"",
    "code/__torch__.py": b"class M(Module):\n  def forward(self, x: Tensor) -> Tensor:\n    return torch.relu(x)\n",
    "code/__torch__.py.debug_pkl": b"torch.save",
    "data/0": bytes(range(40)),
    "extra/notes": b"torch.save",
    "version": b"3",
}


def copied(folder: Path, changes: dict[str, Any] | None = None, compress: int = zipfile.ZIP_STORED) -> dict[str, bytes]:
    with zipfile.ZipFile(folder / "digits.pt", "w", compress) as archive:
        for name, content in {**RECORDS, **(changes or {})}.items():
            if content is not None:
                archive.writestr(f"digits/{name}", content)
    target = folder / "copy.pt"
    copy_safely(folder / "digits.pt", target)
    with zipfile.ZipFile(target) as archive:
        return {entry.filename: archive.read(entry) for entry in archive.infolist()}


def test_what_is_needed_is_copied(tmp_path: Path) -> None:
    got = copied(tmp_path)
    assert got == {f"model/{name}": RECORDS[name] for name in got_names()}


def got_names() -> list[str]:
    return [name for name in RECORDS if not name.endswith("debug_pkl") and not name.startswith("extra/")]


@pytest.mark.parametrize(
    "code",
    [
        b"torch.save(x, 'f')",
        b"torch . save\n(x, 'f')",
        b"ops.aten.save(x, 'f')",
        b"torch.from_file('f', False, 4)",
        b"ops.aten.from_file('f')",
        b"ops.prim.PythonOp()",
        b"rpc_sync('w')",
        b"self.o = __torch__.torch.classes.dist_rpc.Thing()",
    ],
)
@pytest.mark.parametrize("record", ["code/__torch__/deep/m.py", "data.pkl", "constants.pkl"])
def test_operators_that_reach_the_machine_are_refused(tmp_path: Path, code: bytes, record: str) -> None:
    with pytest.raises(LoadFailed, match=rf"digits\.pt: {record} names"):
        copied(tmp_path, {record: code})


@pytest.mark.parametrize("code", [b"x.saved", b"torch.classes.quantized.Conv2dPackedParamsBase", b"self.savepoint"])
def test_words_that_only_look_like_them_pass(tmp_path: Path, code: bytes) -> None:
    copied(tmp_path, {"code/m.py": code})


def test_other_archives_are_not_torchscript(tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match="not a TorchScript file"):
        copied(tmp_path, {"constants.pkl": None})


def test_weights_that_are_compressed_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match="data/0: expected it without compression"):
        copied(tmp_path, compress=zipfile.ZIP_DEFLATED)


def test_two_roots_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "digits.pt", "w") as archive:
        archive.writestr("a/constants.pkl", b"")
        archive.writestr("b/constants.pkl", b"")
    with pytest.raises(LoadFailed, match="one root folder"):
        copy_safely(tmp_path / "digits.pt", tmp_path / "copy.pt")
