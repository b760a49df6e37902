"""The Dockerfiles: what they say twice agrees with where it comes from, and a container starts what a laptop starts."""

import json
import re
import runpy
import sys
import tomllib
from collections.abc import Awaitable, Callable, Sequence
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer

from infermesh.cli import rooms
from infermesh.mesh import config, forks, process

ROOT = Path(__file__).parents[3]
ROOMS = ["gateway", "registry", "scheduler", "worker"]


def _stages(file: str) -> dict[str, str]:
    """Returns the lines of each target, by name, continued lines joined."""
    text = (ROOT / file).read_text().replace("\\\n", " ")
    parts = re.split(r"^FROM \S+ AS (\S+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


STAGES = {room: _stages("Dockerfile.worker" if room == "worker" else "Dockerfile.gateway")[room] for room in ROOMS}


def _words(room: str, instruction: str) -> list[str]:
    found = re.search(rf"^{instruction} (\[.*\])$", STAGES[room], re.MULTILINE)
    assert found is not None
    words: list[str] = json.loads(found[1])
    return words


@pytest.mark.parametrize("file", ["Dockerfile.gateway", "Dockerfile.worker"])
def test_versions_are_the_projects(file: str) -> None:
    text = (ROOT / file).read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"\nARG VERSION={project['version']}\n" in text
    torch = re.findall(r"^ARG TORCH=(\S+)$", text, re.MULTILINE)
    assert all(one in (ROOT / "constraints.txt").read_text().splitlines() for one in torch)
    assert len(torch) == (file == "Dockerfile.worker")


@pytest.mark.parametrize("room", ROOMS)
def test_an_image_without_arguments_is_well_configured(room: str) -> None:
    flags = _words(room, "CMD")
    kind = import_module(f"infermesh.{room}.config")
    found: Any = config.load(getattr(kind, f"{room.title()}Config"), flags, {}, room=room)
    ports = {address.rpartition(":")[2] for flag, address in pairwise(flags) if "listen" in flag}
    exposed = re.search(r"^EXPOSE (.*)$", STAGES[room], re.MULTILINE)
    assert exposed is not None
    assert ports <= set(exposed[1].split())
    assert found.process.health_listen == "0.0.0.0:8086"


@pytest.mark.parametrize("room", ROOMS)
def test_a_container_runs_what_a_local_mesh_runs(room: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[tuple[str, Callable[[Sequence[str]], Awaitable[Any]]]] = []

    def run(main: Callable[[Sequence[str]], Awaitable[Any]], argv: Sequence[str] | None = None) -> int:
        ran.append(("run", main))
        return 0

    monkeypatch.setattr(forks, "disable_grpc_handlers", lambda: ran.append(("prepare", print)))
    monkeypatch.setattr(rooms, "disable_grpc_handlers", forks.disable_grpc_handlers)
    monkeypatch.setattr(process, "run", run)
    monkeypatch.setattr(f"infermesh.{room}.main.run", run)
    assert _words(room, "ENTRYPOINT") == ["tini", "--", "infermesh", room]
    with pytest.raises(typer.Exit):
        getattr(rooms, room)(SimpleNamespace(args=[]))
    in_container, ran[:] = list(ran), []
    monkeypatch.setattr(sys, "argv", [room])
    with pytest.raises(SystemExit):
        runpy.run_module(f"infermesh.{room}", run_name="__main__")  # as testing/child.py starts it
    assert in_container == ran
