"""`infermesh bench` against a fake mesh."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli.conftest import Run
from tests.unit.client.fake_mesh import FakeMesh

SHORT = ("--duration", "0.3", "--rate", "200")


def test_figures_for_people(run: Run, mesh: FakeMesh) -> None:
    result = run("bench", "digits", *SHORT)

    assert result.exit_code == 0, result.output
    assert [line.split()[0] for line in result.stdout.splitlines()] == [
        *("calls", "offered", "answered", "goodput", "latency", "failed", "sent", "load"),
    ]
    assert len({request.raw_input_contents[0] for request in mesh.inference.requests}) > 1


def test_the_same_seed_sends_the_same_calls(run: Run, mesh: FakeMesh) -> None:
    sent = []
    for _ in range(2):
        mesh.inference.requests.clear()
        assert run("bench", "digits", *SHORT, "--arrivals", "bursty", "--seed", "7", "-v", "7").exit_code == 0
        sent.append(sorted(request.SerializeToString() for request in mesh.inference.requests))
    assert sent[0] == sent[1]
    assert {request.model_version for request in mesh.inference.requests} == {"7"}


def test_files(run: Run, tmp_path: Path) -> None:
    names = ("--csv", "run.csv", "--json", "run.json", "--plot", "run.png")
    result = run("bench", "digits", "image=[[1, 2, 3, 4]]", *SHORT, *names, "-o", "json")

    assert result.exit_code == 0, result.output
    shown: dict[str, Any] = json.loads(result.stdout)
    assert shown == json.loads((tmp_path / "run.json").read_text())
    assert shown["failed"] == {}
    assert shown["calls"] > 20
    assert len((tmp_path / "run.csv").read_text().splitlines()) == 2
    assert (tmp_path / "run.png").read_bytes().startswith(b"\x89PNG")


def test_a_closed_loop(run: Run) -> None:
    result = run("bench", "digits", "--duration", "0.2", "--arrivals", "closed", "--in-flight", "3", "-o", "json")

    assert json.loads(result.stdout)["in_flight"] == 3


@pytest.mark.mesh
def test_several_processes_share_the_calls(run: Run, mesh: FakeMesh) -> None:
    result = run("bench", "digits", *SHORT, "--processes", "2", "-o", "json")

    assert result.exit_code == 0, result.output
    shown = json.loads(result.stdout)
    assert shown["failed"] == {}
    assert len(mesh.inference.requests) == shown["calls"] + 4  # one on each connection before it begins


def test_a_failure_of_the_first_call_is_the_command_s(run: Run) -> None:
    result = run("bench", "missing", *SHORT)

    assert (result.exit_code, "NOT_FOUND" in result.stderr) == (1, True)


@pytest.mark.parametrize(("path", "hint"), [("no/run.png", "there is no folder"), ("run.jpg", ".png, .svg or .pdf")])
def test_a_picture_that_cannot_be_written_fails_before_the_load(run: Run, mesh: FakeMesh, path: str, hint: str) -> None:
    result = run("bench", "digits", "--plot", path)

    assert (result.exit_code, hint in result.stderr) == (2, True)
    assert not mesh.inference.requests


@pytest.mark.parametrize(("library", "more"), [("hdrh", ()), ("matplotlib", ("--plot", "run.png"))])
def test_without_the_extra_the_error_names_it(
    run: Run, mesh: FakeMesh, monkeypatch: pytest.MonkeyPatch, library: str, more: tuple[str, ...]
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    result = run("bench", "digits", *SHORT, *more)

    assert (result.exit_code, "infermesh[bench]" in result.stderr) == (2, True)
    assert not mesh.inference.requests
