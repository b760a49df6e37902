"""Copies a `.pt2` archive so that torch can load it without unpickling anything of it. Without torch.

`torch.export.load` unpickles (with full powers, as a fallback even where it first tries `weights_only`): the sample
inputs that every archive carries, and weights and constants whose configuration says so. The copy has no sample
inputs, its configurations are checked, and its program text has passed `pt2_graph.clean`. It is a copy, and not a
check in place, because two readers may see two different things in one zip file.
"""

import json
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any, Final

from infermesh.errors import LoadFailed
from infermesh.worker.backends import pt2_graph

_CONFIGS: Final = {
    "data/weights/model_weights_config.json": re.compile(r"weight_\d+"),
    "data/constants/model_constants_config.json": re.compile(r"tensor_\d+"),
}
_PROGRAM: Final = "models/model.json"
_FIXED: Final = {"archive_format": b"pt2", "byteorder": b"little", ".data/version": b"6\n"}
_JSON_LIMIT: Final = 256 << 20


def copy_safely(source: Path, target: Path) -> None:
    """Writes the safe copy of `source` to `target`, which must end in `.pt2`. Raises LoadFailed."""
    try:
        with zipfile.ZipFile(source) as archive, zipfile.ZipFile(target, "x") as copy:
            _copy(archive, _records(archive), copy)
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise LoadFailed(f"{source.name}: not a .pt2 archive, or a damaged one: {error}") from error
    except LoadFailed as error:
        raise LoadFailed(f"{source.name}: {error.message}", reason=error.reason) from error


def _records(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Returns the records by their path below the archive's root folder."""
    entries = archive.infolist()
    names = [entry.filename for entry in entries]
    if "serialized_exported_program.json" in names:
        raise LoadFailed("written by a torch older than 2.8: export and save it again")
    roots = {name.partition("/")[0] for name in names}
    if len(roots) != 1 or len(set(names)) != len(names):
        raise LoadFailed("expected one root folder and no name twice")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise LoadFailed("expected records without compression")
    records = {entry.filename.partition("/")[2]: entry for entry in entries}
    if "archive_format" not in records or archive.read(records["archive_format"]) != b"pt2":
        raise LoadFailed("expected the record archive_format to say pt2: save the program with torch.export.save")
    if any(name.startswith("data/aotinductor/") for name in records):
        raise LoadFailed("it holds native code of AOTInductor: save the program with torch.export.save instead")
    programs = [name for name in records if name.startswith("models/")]
    if programs != [_PROGRAM]:
        raise LoadFailed(f"expected one program, {_PROGRAM}, got {', '.join(programs) or 'none'}")
    return records


def _copy(archive: zipfile.ZipFile, records: dict[str, zipfile.ZipInfo], copy: zipfile.ZipFile) -> None:
    payloads: set[str] = set()
    for name, allowed in _CONFIGS.items():
        config = _json(archive, records, name)
        payloads |= _payloads(config, name, allowed)
        copy.writestr(f"model/{name}", json.dumps(config))
    program = pt2_graph.clean(_json(archive, records, _PROGRAM))
    copy.writestr(f"model/{_PROGRAM}", json.dumps(program))
    copy.writestr("model/data/sample_inputs/model.pt", b"")
    version = archive.read(records["archive_version"]) if "archive_version" in records else b"0"
    for name, content in {**_FIXED, "archive_version": version}.items():
        copy.writestr(f"model/{name}", content)
    for name in sorted(payloads):
        if name not in records:
            raise LoadFailed(f"record {name} is missing")
        with archive.open(records[name]) as reader, copy.open(f"model/{name}", "w", force_zip64=True) as writer:
            shutil.copyfileobj(reader, writer, 1 << 20)


def _json(archive: zipfile.ZipFile, records: dict[str, zipfile.ZipInfo], name: str) -> Any:
    if name not in records:
        raise LoadFailed(f"record {name} is missing")
    if records[name].file_size > _JSON_LIMIT:
        raise LoadFailed(f"record {name}: expected at most {_JSON_LIMIT} bytes, got {records[name].file_size}")
    try:
        return json.loads(archive.read(records[name]))
    except (ValueError, RecursionError) as error:
        raise LoadFailed(f"record {name}: not JSON: {error}") from error


def _payloads(config: Any, name: str, allowed: re.Pattern[str]) -> set[str]:
    """Returns the records that a configuration refers to, after checking it."""
    found = set()
    entries = config.get("config") if isinstance(config, dict) else None
    for tensor, meta in (entries if isinstance(entries, dict) else {}).items():
        path = str(meta.get("path_name", ""))
        if meta.get("use_pickle") is not False or not allowed.fullmatch(path):
            raise LoadFailed(f"tensor {tensor[:80]!r} is stored as a pickle ({path[:80]!r}): pickles are never loaded")
        found.add(f"{name.rpartition('/')[0]}/{path}")
    pt2_graph.check(config)
    return found
