"""Fails when the committed stubs are not those that `make proto` would write, or need more than pyproject.toml asks.

Stubs carry the versions that wrote them: older runtimes refuse to load them, so those versions are our floors.
"""

import filecmp
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from gen_protos import ROOT, generate

_STAMPS = {
    "protobuf": re.compile(r"^# Protobuf Python Version: (\S+)$", re.MULTILINE),
    "grpcio": re.compile(r"^GRPC_GENERATED_VERSION = '(\S+)'$", re.MULTILINE),
}
# released in step with grpcio: a stub's stamp is their floor, too
_WITH_GRPCIO = ("grpcio-status",)


def stubs(folder: Path) -> dict[str, Path]:
    """Returns the generated files below a folder by their relative paths."""
    return {
        str(path.relative_to(folder)): path for path in folder.rglob("*_pb2*.py*") if path.suffix in (".py", ".pyi")
    }


def stale() -> list[str]:
    """Returns the stubs that are missing, changed, or no longer made."""
    with TemporaryDirectory() as scratch:
        out = Path(scratch) / "infermesh"
        generate(out.parent)
        fresh, committed = stubs(out), stubs(ROOT / "services" / "infermesh")
        names = sorted(fresh.keys() | committed.keys())
        return [
            name
            for name in names
            if name not in fresh
            or name not in committed
            or not filecmp.cmp(fresh[name], committed[name], shallow=False)
        ]


def stamps(package: str) -> set[str]:
    """Returns the versions of protobuf or grpcio that the committed stubs carry."""
    texts = (path.read_text() for path in stubs(ROOT / "services" / "infermesh").values() if path.suffix == ".py")
    return {found for text in texts for found in _STAMPS[package].findall(text)}


def floors() -> dict[str, str]:
    """Returns the least version of each dependency in pyproject.toml, and the pins of the `proto` group."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [*project["project"]["dependencies"], *project["dependency-groups"]["proto"]]
    found = (re.match(r"([A-Za-z0-9_.-]+)[^=<>]*[>=]=([0-9.]+)", requirement) for requirement in wanted)
    return {match[1]: match[2] for match in found if match}


def wrong_floors() -> Iterator[str]:
    """Yields what pyproject.toml says otherwise than the stubs need."""
    least = floors()
    for package in _STAMPS:
        found = stamps(package)
        if len(found) != 1:
            yield f"stubs: expected one {package} version in all of them, got {', '.join(sorted(found)) or 'none'}"
        for name in (package, *(_WITH_GRPCIO if package == "grpcio" else ())):
            if found != {least.get(name, "")}:
                yield f"pyproject.toml: {name}>={least.get(name)}, the stubs need {', '.join(sorted(found))}"
    if stamps("grpcio") != {least.get("grpcio-tools", "")}:
        yield f"pyproject.toml: grpcio-tools=={least.get('grpcio-tools')} did not write the committed stubs"


if __name__ == "__main__":
    wrong = stale()
    if wrong:
        sys.exit("stubs out of date, run `make proto` and commit:\n  " + "\n  ".join(wrong))
    problems = list(wrong_floors())
    if problems:
        sys.exit("\n".join(problems))
