"""requirements/*.txt: exactly what an image needs, in the versions that the project is tested with, by hash."""

import re
import tomllib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = {
    "gateway": ["gateway"],
    "registry": ["registry", "postgres"],
    "scheduler": ["scheduler"],
    "worker": ["worker"],
}
LINUX = {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64", "os_name": "posix"}
IMAGE = LINUX | {"python_version": "3.11", "python_full_version": "3.11.9", "implementation_name": "cpython"}
FOR_GPUS = re.compile(r"nvidia-|cuda-|triton$|pytorch-triton")
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;]+)((?:\s*\\\n\s+--hash=sha256:[0-9a-f]{64})+)$", re.MULTILINE)


def _locked(name: str) -> dict[str, str]:
    """Returns the versions of a lock by name. Every entry must be of the form that pip checks by hash."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    pins = {canonicalize_name(found[1]): found[2] for found in PIN.finditer(text)}
    starts = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]
    assert len(pins) == len(starts), f"{name}: entries without a version or a hash"
    return pins


def _wanted(texts: Iterable[str], extra: str = "") -> list[Requirement]:
    wanted = [Requirement(text) for text in texts]
    return [one for one in wanted if one.marker is None or one.marker.evaluate({**IMAGE, "extra": extra})]


def _roots(name: str) -> list[Requirement]:
    if name == "build":
        return _wanted(PROJECT["dependency-groups"]["image"])
    extras = [text for extra in EXTRAS[name] for text in PROJECT["project"]["optional-dependencies"][extra]]
    return _wanted([*PROJECT["project"]["dependencies"], *extras])


def _needs(requirement: Requirement) -> list[Requirement]:
    """Returns what an installed package needs itself. Raises PackageNotFoundError for one that is not installed."""
    texts = requires(requirement.name) or []
    found = [one for extra in ("", *requirement.extras) for one in _wanted(texts, extra)]
    return [one for one in found if not FOR_GPUS.match(canonicalize_name(one.name))]


@pytest.mark.parametrize("name", [*EXTRAS, "build"])
def test_versions_are_those_that_the_project_is_tested_with(name: str) -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    constraints = {canonicalize_name(package): version for package, version in pairs}
    locked = _locked(name)
    assert locked == {package: constraints.get(package) for package in locked}, "run `make lock`"


@pytest.mark.parametrize("name", EXTRAS)
def test_all_that_an_image_needs_is_locked_and_nothing_else(name: str) -> None:
    locked, unknown = _locked(name), set()
    queue, needed = _roots(name), set[str]()
    while queue:
        requirement = queue.pop()
        package = canonicalize_name(requirement.name)
        if package != "torch":  # its hash depends on its build
            assert package in locked, f"{package} is missing: run `make lock`"
            assert requirement.specifier.contains(locked[package], prereleases=True), f"{requirement}: run `make lock`"
        if package not in needed:
            needed.add(package)
            try:
                queue += _needs(requirement)
            except PackageNotFoundError:  # a database driver that the tests do without
                unknown.add(package)
    assert unknown <= {"psycopg", "psycopg-binary"}
    assert set(locked) - needed <= ({"psycopg-binary"} if "psycopg" in unknown else set()), "run `make lock`"


def test_what_builds_the_images_is_locked() -> None:
    locked = _locked("build")
    for requirement in _roots("build"):
        assert requirement.specifier.contains(locked[canonicalize_name(requirement.name)])
