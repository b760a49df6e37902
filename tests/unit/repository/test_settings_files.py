"""Settings that name files or modules by pattern: each must still match something (they rot silently otherwise)."""

import configparser
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
STUBS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "services").rglob("*_pb2*.py*"))
STUBS = [path for path in STUBS if "__pycache__" not in path]


def _attributes() -> list[list[str]]:
    lines = (ROOT / ".gitattributes").read_text().splitlines()
    return [line.split() for line in lines if line and not line.startswith("#")]


def _git(*arguments: str) -> str:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("pattern", [row[0] for row in _attributes()])
def test_every_git_attribute_matches_a_file(pattern: str) -> None:
    assert _git("ls-files", f":(glob){pattern}")


def test_every_stub_is_marked_as_generated() -> None:
    shown = _git("check-attr", "linguist-generated", "diff", "--", *STUBS)
    values = dict(line.rsplit(": ", 1) for line in shown.splitlines())
    assert {values[f"{stub}: linguist-generated"] for stub in STUBS} == {"set"}
    assert {values[f"{stub}: diff"] for stub in STUBS} == {"unset"}


@pytest.mark.parametrize(
    "pattern", [*PROJECT["tool"]["ruff"]["extend-exclude"], *PROJECT["tool"]["coverage"]["run"]["omit"]]
)
def test_every_excluded_pattern_matches_a_stub(pattern: str) -> None:
    assert any(Path(stub).match(pattern) for stub in STUBS)


def test_mypy_excludes_stubs_and_nothing_else() -> None:
    (pattern,) = PROJECT["tool"]["mypy"]["exclude"]
    sources = [p.relative_to(ROOT).as_posix() for p in (ROOT / "services").rglob("*.py*")]
    excluded = {path for path in sources if re.search(pattern, path)}
    assert excluded == set(STUBS)


def _importlinter() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / ".importlinter")
    return parser


def _modules() -> Iterator[str]:
    parser = _importlinter()
    for section in parser.sections():
        for key in ("source_modules", "forbidden_modules"):
            yield from parser.get(section, key, fallback="").split()
    layers = parser["importlinter:contract:rooms"]["layers"]
    yield from (f"infermesh.{name}" for name in re.findall(r"\w+", layers))


@pytest.mark.parametrize("module", sorted(set(_modules())))
def test_every_module_in_the_import_contracts_exists(module: str) -> None:
    assert find_spec(module) is not None


def test_every_room_is_under_the_import_contracts() -> None:
    rooms = {p.name for p in (ROOT / "services" / "infermesh").iterdir() if (p / "__init__.py").exists()}
    named = set(re.findall(r"\w+", _importlinter()["importlinter:contract:rooms"]["layers"]))
    assert rooms <= named


def test_pre_commit_calls_targets_that_make_knows() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert hooks
    for hook in hooks:
        command, *wanted = hook["entry"].split()
        assert command == "make"
        assert set(wanted) <= targets


@pytest.fixture
def check_protos(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    pytest.importorskip("grpc_tools")
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    for name in ("check_protos", "gen_protos"):
        sys.modules.pop(name, None)
    import check_protos

    return check_protos


def test_stubs_need_no_more_than_is_asked_for(check_protos: ModuleType) -> None:
    assert list(check_protos.wrong_floors()) == []


@pytest.mark.parametrize(
    ("package", "lower"),
    [("protobuf", "6.30.0"), ("grpcio", "1.70.0"), ("grpcio-status", "1.70.0"), ("grpcio-tools", "1")],
)
def test_a_floor_that_is_too_low_is_found(
    check_protos: ModuleType, monkeypatch: pytest.MonkeyPatch, package: str, lower: str
) -> None:
    least = check_protos.floors() | {package: lower}
    monkeypatch.setattr(check_protos, "floors", lambda: least)
    (problem,) = check_protos.wrong_floors()
    assert package in problem
