"""A virtual environment for every peer, made when it is first needed.

They lie in `$INFERMESH_PEERS`, or else in `infermesh/peers` of the user's cache folder, and are made again when the
peer's requirements or the Python or torch of this process have changed. torch is the one of this process: its
files and those of what it needs are linked into a folder that every environment has on its path, so that all systems
compute with the same build, and so that no peer downloads another one.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

READY = "ready"
PIP = ("-m", "pip", "--disable-pip-version-check", "-q")


class InstallError(Exception):
    """A peer cannot be installed on this machine; the message says why in one line."""


@dataclass(frozen=True)
class Environment:
    """The environment of one peer: `name`, and the pinned `requirements` it is made of."""

    name: str
    requirements: Path

    @property
    def folder(self) -> Path:
        """Where the environment lies."""
        return cache() / f"{self.name}-{self._digest}"

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    def prepare(self) -> None:
        """Makes the environment unless it is there. Blocks for minutes. Raises InstallError."""
        if (self.folder / READY).exists():
            return
        for stale in cache().glob(f"{self.name}-*"):
            shutil.rmtree(stale)
        _run(sys.executable, "-m", "venv", str(self.folder))
        self._share_torch()
        constraint = self.folder / "constraints.txt"
        constraint.write_text(f"torch=={distribution('torch').version.partition('+')[0]}\n")
        _run(str(self.python), *PIP, "install", "pip>=25.1")
        _run(str(self.python), *PIP, "install", "-c", str(constraint), "-r", str(self.requirements))
        (self.folder / READY).touch()

    def _share_torch(self) -> None:
        shared = self.folder / "torch"
        shared.mkdir()
        for source in files(closure("torch")):
            (shared / source.name).symlink_to(source)
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        path = self.folder / "lib" / version / "site-packages" / "torch-of-the-benchmark.pth"
        path.write_text(f"{shared}\n")

    @cached_property
    def _digest(self) -> str:
        torch = f"{sys.version} {distribution('torch').version} {distribution('torch').locate_file('')}"
        return hashlib.sha256(torch.encode() + self.requirements.read_bytes()).hexdigest()[:12]


def cache() -> Path:
    """Returns the folder of all environments."""
    if chosen := os.environ.get("INFERMESH_PEERS"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "infermesh" / "peers"


def closure(name: str) -> list[Distribution]:
    """Returns an installed distribution and all that it needs here, each once."""
    found: dict[str, Distribution] = {}
    waiting = [name]
    while waiting:
        wanted = waiting.pop().lower().replace("_", "-")
        if wanted in found:
            continue
        try:
            found[wanted] = distribution(wanted)
        except PackageNotFoundError:
            continue  # needed only with an extra, or only elsewhere
        for text in found[wanted].requires or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)
    return list(found.values())


def files(distributions: Iterable[Distribution]) -> list[Path]:
    """Returns the files and folders directly below site-packages that distributions consist of, each once."""
    names: dict[Path, None] = {}
    for one in distributions:
        for file in one.files or ():
            if file.parts[0] not in ("..", "__pycache__"):
                names[Path(str(one.locate_file(file.parts[0])))] = None
    return list(names)


def _run(*command: str) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise InstallError(reason(done.stdout))


def reason(output: str) -> str:
    """Returns the line of a failed command's output that says most."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1] if lines else "no output")
