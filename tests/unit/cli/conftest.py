"""Fixtures of the command line's tests: a fake mesh that is served while commands block, and a way to call them."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from infermesh.cli.main import build
from infermesh.client.sync import LoopThread
from tests.unit.client.fake_mesh import FakeMesh

Run = Callable[..., Result]


@pytest.fixture
def mesh() -> Iterator[FakeMesh]:
    thread = LoopThread()
    fake = FakeMesh()
    thread.run(fake.__aenter__())
    yield fake
    thread.run(fake.__aexit__())
    thread.stop()


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Calls the command line in an empty folder, with no mesh in sight."""
    monkeypatch.chdir(tmp_path)
    for name in ("INFERMESH_ADDRESS", "INFERMESH_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str, text: str | None = None) -> Result:
        return CliRunner().invoke(build(), list(arguments), input=text, prog_name="infermesh")

    return run


@pytest.fixture
def run(bare: Run, mesh: FakeMesh, tmp_path: Path) -> Run:
    """Calls the command line in a folder whose `.infermesh` names the fake mesh."""
    folder = tmp_path / ".infermesh" / "run"
    folder.mkdir(parents=True)
    (folder / "mesh.json").write_text(json.dumps({"gateway": mesh.address}))
    return bare
