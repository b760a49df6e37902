"""Starts the built images and looks at what is in them. Called by `make images-check`.

Each image must start without arguments, end on SIGTERM with 0, answer a bad setting with one line and status 2, run
as no root, and carry its labels and a bill of materials. Those without torch must be small, and hold no compiler.
"""

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

SERVICES = ("gateway", "registry", "scheduler", "worker")
LARGEST = 400_000_000
"""Bytes of an image without torch."""
USER = "65532:65532"
LABELS = ("title", "description", "version", "revision")
COMPILERS = ("cc", "gcc", "g++", "c++", "clang", "rustc", "ld", "as", "make", "pip", "pip3")
SECONDS = 15
"""How long an image runs before it is told to stop."""


@dataclass(frozen=True)
class Image:
    """What an engine says of an image: `config` is its OCI configuration, `size` its bytes, unpacked."""

    name: str
    config: dict[str, Any]
    size: int

    @property
    def command(self) -> list[str]:
        """What it starts without arguments."""
        return [*self.config["Entrypoint"], *self.config["Cmd"]]


class Engine(Protocol):
    """What runs images."""

    def inspect(self, image: str) -> Image:
        """Returns what it knows of an image. Raises CalledProcessError for one that it does not have."""

    def run(self, image: str, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Runs a command in a fresh container, without capabilities and network, and returns how it ended. Blocking."""


class Docker:
    """Docker, Podman, and what takes their command line. The root file system is read-only."""

    def __init__(self, engine: Sequence[str]) -> None:
        self._engine = engine

    def inspect(self, image: str) -> Image:
        """See Engine."""
        found = json.loads(_output([*self._engine, "image", "inspect", image]))[0]
        return Image(image, found["Config"], found["Size"])

    def run(self, image: str, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """See Engine."""
        options = ["--rm", "--network=none", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges"]
        options += ["--tmpfs=/tmp", "--tmpfs=/var/lib/infermesh:mode=1777", "--pull=never"]
        return _run([*self._engine, "run", *options, f"--entrypoint={command[0]}", image, *command[1:]])


class Buildah:
    """Buildah, which only builds, but runs commands on the way. It knows no read-only root file system."""

    def __init__(self, engine: Sequence[str]) -> None:
        self._engine = engine

    def inspect(self, image: str) -> Image:
        """See Engine."""
        found = json.loads(_output([*self._engine, "inspect", "--type=image", image]))
        listed = json.loads(_output([*self._engine, "images", "--json", image]))
        return Image(image, found["OCIv1"]["config"], _bytes(listed[0]["size"]))

    def run(self, image: str, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """See Engine."""
        container = _output([*self._engine, "from", "--pull-never", image]).strip()
        try:
            run = [*self._engine, "run", "--isolation=chroot", "--cap-drop=all", container, "--", *command]
            # its network is that of the caller: one with nothing but loopback
            return _run(["unshare", "--net", "sh", "-c", f"ip link set lo up && exec {shlex.join(run)}"])
        finally:
            _output([*self._engine, "rm", container])


def checks(engine: Engine, service: str, image: str) -> Iterator[str]:
    """Yields what is wrong with an image, a line each."""
    found = engine.inspect(image)
    if found.config.get("User") != USER:
        yield f"runs as {found.config.get('User') or 'root'}, not as {USER}"
    labels = found.config.get("Labels") or {}
    yield from (f"has no label {label}" for label in LABELS if not labels.get(f"org.opencontainers.image.{label}"))
    if service != "worker" and found.size >= LARGEST:
        yield f"has {found.size:,} bytes, more than {LARGEST:,}"
    yield from _contents(engine, service, image)
    yield from _starts(engine, found)
    yield from _refuses(engine, found)


def _contents(engine: Engine, service: str, image: str) -> Iterator[str]:
    present = engine.run(image, ["sh", "-c", f"for p in {' '.join(COMPILERS)}; do command -v $p; done; true"])
    if service != "worker" and present.stdout.strip():
        yield f"holds {', '.join(present.stdout.split())}"
    modules = "import importlib.util as u; print(*(m for m in ('torch', 'pip', 'uvloop') if u.find_spec(m)))"
    found = engine.run(image, ["python", "-c", modules])
    expected = ["torch", "uvloop"] if service == "worker" else ["uvloop"]
    if found.stdout.split() != expected:
        yield f"of torch, pip and uvloop, Python finds {found.stdout.split()}, not {expected}: {_tail(found.stderr)}"
    bill = engine.run(image, ["cat", "/usr/share/infermesh/sbom.json"])
    names = {part["name"] for part in json.loads(bill.stdout or "{}").get("components", ())}
    yield from (f"its bill of materials lacks {name}" for name in ("grpcio", "tini", "infermesh") if name not in names)


def _starts(engine: Engine, image: Image) -> Iterator[str]:
    """A worker that can't tell its address, for want of a network, may say so instead."""
    until = ["timeout", "--preserve-status", "--signal=TERM", f"--kill-after={SECONDS}", str(SECONDS)]
    done = engine.run(image.name, [*until, *image.command])
    text = done.stdout + done.stderr
    if _refused(done, "advertise"):
        return
    if '"event": "ready"' not in text:
        yield f"does not start without arguments: {_tail(text)}"
    if done.returncode:
        yield f"ends with status {done.returncode} on SIGTERM: {_tail(text)}"


def _refuses(engine: Engine, image: Image) -> Iterator[str]:
    wrong = {
        "--no-such-flag=1": "--no-such-flag",
        "--drain-timeout=soon": "drain.timeout",
        "--config=/no.yaml": "/no.yaml",
    }
    for argument, named in wrong.items():
        done = engine.run(image.name, [*image.config["Entrypoint"], argument])
        if not _refused(done, named):
            yield f"{argument}: expected one line and status 2, got status {done.returncode}: {_tail(done.stderr)}"


def _refused(done: subprocess.CompletedProcess[str], named: str) -> bool:
    """Tells whether a service ended because of a bad setting, and said which, in one line."""
    said = [line for line in done.stderr.splitlines() if line.startswith("infermesh: ")]
    return done.returncode == 2 and len(said) == 1 and named in said[0] and "Traceback" not in done.stderr


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def _output(command: Sequence[str]) -> str:
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def _bytes(size: str | int) -> int:
    """Returns the bytes of a size as Buildah writes it: `398 MB`."""
    if isinstance(size, int):
        return size
    number, unit = size.split()
    return int(float(number) * {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}[unit.upper()])


def _tail(text: str) -> str:
    return " | ".join(text.strip().splitlines()[-3:])


def main() -> int:
    """Checks every image; returns 1 if anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine", default="docker", help="docker, podman or buildah, with its options")
    parser.add_argument("--registry", default="", help="what stands before /infermesh-gateway")
    parser.add_argument("--tag", default="dev")
    given = parser.parse_args()
    command = shlex.split(given.engine)
    engine: Engine = Buildah(command) if "buildah" in command[0] else Docker(command)
    failed = False
    for service in SERVICES:
        image = f"{given.registry and given.registry + '/'}infermesh-{service}:{given.tag}"
        wrong = list(checks(engine, service, image))
        failed |= bool(wrong)
        print(f"images-check: {image}: {'ok' if not wrong else 'WRONG'}", *wrong, sep="\n  ", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
