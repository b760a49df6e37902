"""Copies a TorchScript archive after checking that its code only computes. Without torch.

TorchScript is a program, but a tame one: it can not reach Python. A few of its operators reach the machine all the
same (`torch.save` writes any file, `torch.from_file` reads one), some of them already while the archive is loaded.
Archives that name one are refused. As with `.pt2` it is a copy that is loaded, because two readers may see two
different things in one zip file.
"""

import re
import shutil
import zipfile
from pathlib import Path
from typing import Final

from infermesh.errors import LoadFailed

_FORBIDDEN: Final = re.compile(
    rb"\b(save|from_file|load_tensor|rpc_async|rpc_sync|rpc_remote|PythonOp|IgnoredPythonOp)\b"
    rb"|torch\.classes\.(?!quantized\.)\w+"
)
_TEXT_LIMIT: Final = 64 << 20


def copy_safely(source: Path, target: Path) -> None:
    """Writes the checked copy of `source` to `target`. Raises LoadFailed."""
    try:
        with zipfile.ZipFile(source) as archive, zipfile.ZipFile(target, "x") as copy:
            _check_names(archive.namelist())
            for entry in archive.infolist():
                _copy(archive, entry, copy)
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise LoadFailed(f"{source.name}: not a TorchScript file (made by torch.jit.save): {error}") from error
    except LoadFailed as error:
        raise LoadFailed(f"{source.name}: {error.message}") from error


def _check_names(names: list[str]) -> None:
    roots = {name.partition("/")[0] for name in names}
    if len(roots) != 1 or len(set(names)) != len(names):
        raise LoadFailed("expected one root folder and no name twice")
    if not any(name.partition("/")[2] == "constants.pkl" for name in names):
        raise LoadFailed("not a TorchScript file (made by torch.jit.save): it has no constants.pkl")


def _copy(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, copy: zipfile.ZipFile) -> None:
    path = entry.filename.partition("/")[2]
    if path.endswith(".debug_pkl") or path.startswith("extra/"):
        return
    name = f"model/{path}"
    if path.startswith("code/") or path.endswith(".pkl"):
        if entry.file_size > _TEXT_LIMIT:
            raise LoadFailed(f"record {path}: expected at most {_TEXT_LIMIT} bytes, got {entry.file_size}")
        content = archive.read(entry)
        _check_content(path, content)
        copy.writestr(name, content)
    elif entry.compress_type != zipfile.ZIP_STORED:
        raise LoadFailed(f"record {path}: expected it without compression")
    else:
        with archive.open(entry) as reader, copy.open(name, "w", force_zip64=True) as writer:
            shutil.copyfileobj(reader, writer, 1 << 20)


def _check_content(path: str, content: bytes) -> None:
    """Looks for words anywhere, even in texts: too strict for a module that calls something of its own `save`."""
    found = _FORBIDDEN.search(content)
    if found is not None:
        word = found[0].decode(errors="replace")
        raise LoadFailed(f"{path} names {word!r}, which could reach beyond the model: such programs are not loaded")
