"""Every command against a fake mesh: what it asks for, what it prints, how it fails."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infermesh import errors
from infermesh.cli.main import COMMANDS
from tests.unit.cli.conftest import Run
from tests.unit.client.fake_mesh import FakeMesh


def printed(result: Any) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    path = tmp_path / "Ranker.pt"
    path.write_bytes(b"weights")
    return path


SPECS = ("--input", "x:FP32[-1,4]", "--output-tensor", "y:INT64[-1]")


def test_push_names_the_model_after_its_file(run: Run, mesh: FakeMesh, model_file: Path) -> None:
    result = run("push", str(model_file), *SPECS, "--max-batch-size", "8", "--label", "team=a", "--option", "k=v=w")
    assert result.exit_code == 0, result.output
    version = mesh.models.versions["models/ranker/versions/1"]
    assert version.max_batch_size == 8
    assert dict(version.labels) == {"team": "a"}
    assert dict(version.options) == {"k": "v=w"}
    assert list(version.signature.inputs[0].shape) == [-1, 4]
    assert "infermesh deploy ranker --version 1" in result.stdout


def test_push_prints_json(run: Run, model_file: Path) -> None:
    shown = printed(run("push", str(model_file), "-n", "digits", *SPECS, "-o", "json"))
    assert shown["name"] == "models/digits/versions/1"
    assert shown["files"][0]["size_bytes"] == 7
    assert shown["signature"]["inputs"][0]["shape"] == [-1, 4]


@pytest.mark.parametrize(
    "names", [{"x": (2, 4), "y": (2,)}, {"inputs.x": (2, 4), "outputs.y": (2,)}], ids=["by signature", "by prefix"]
)
def test_push_with_a_sample(
    run: Run, mesh: FakeMesh, model_file: Path, tmp_path: Path, names: dict[str, tuple[int, ...]]
) -> None:
    kinds = {"x": np.float32, "y": np.int64}
    np.savez(tmp_path / "s.npz", **{name: np.zeros(shape, kinds[name[-1]]) for name, shape in names.items()})
    result = run("push", str(model_file), *SPECS, "--sample", "s.npz")
    assert result.exit_code == 0, result.output
    (sample,) = mesh.models.versions["models/ranker/versions/1"].samples
    assert [t.name for t in (*sample.inputs, *sample.outputs)] == ["x", "y"]


def test_push_infers_the_signature_from_a_sample(run: Run, mesh: FakeMesh, model_file: Path, tmp_path: Path) -> None:
    arrays = {"inputs.a": np.zeros((1, 3)), "outputs.b": np.zeros((1, 2))}
    np.savez(tmp_path / "s.npz", **arrays)
    assert run("push", str(model_file), "--sample", "s.npz").exit_code == 0
    assert list(mesh.models.versions["models/ranker/versions/1"].signature.inputs[0].shape) == [-1, 3]


def test_listings(run: Run, mesh: FakeMesh) -> None:
    for number in (1, 2, 3):
        mesh.add_version("digits", number)
    mesh.add_version("other")
    assert [row["name"] for row in printed(run("models", "-o", "json"))] == ["models/digits", "models/other"]
    assert printed(run("models", "oth", "-o", "json"))[0]["latest_version"] == 1
    assert len(printed(run("versions", "digits", "-o", "json"))) == 3
    assert len(printed(run("workers", "-o", "json"))) == 3
    assert printed(run("deployments", "-o", "json")) == []
    table = run("versions", "digits")
    assert "image FP32[-1,4]" in table.stdout
    assert table.stdout.index("3") < table.stdout.index("1")
    assert "cpu:0 a CPU" in run("workers").stdout


def test_an_empty_listing_says_what_to_do_next(run: Run) -> None:
    result = run("models")
    assert result.exit_code == 0
    assert result.stdout == ""
    assert "infermesh push --help" in result.stderr


def test_aliases(run: Run, mesh: FakeMesh) -> None:
    mesh.add_version("digits", 1)
    mesh.add_version("digits", 2)
    assert run("alias", "set", "digits", "prod", "1", "--expected", "none").exit_code == 0
    lost = run("alias", "set", "digits", "prod", "2", "--expected", "2")
    assert (lost.exit_code, lost.stderr.count("\n")) == (1, 1)
    assert "[CONFLICT]" in lost.stderr
    assert printed(run("alias", "get", "digits", "prod", "-o", "json"))[0]["version"] == "models/digits/versions/1"
    assert len(printed(run("alias", "list", "digits", "-o", "json"))) == 1
    assert "version 1" in run("alias", "delete", "digits", "prod").stdout
    assert run("alias", "get", "digits", "prod").exit_code == 1


def test_deploy_and_undeploy(run: Run, mesh: FakeMesh) -> None:
    mesh.add_version()
    flags = ("-t", "1=90", "-t", "prod=10", "--replicas", "2", "--policy", "random", "--max-delay", "0.01")
    shown = printed(run("deploy", "shop", "-m", "digits", *flags, "-o", "json"))
    assert shown["traffic"] == [{"version": "1", "weight": 90}, {"version": "prod", "weight": 10}]
    assert (shown["replicas"], shown["policy"], shown["batching"]["max_delay"]) == (2, "random", "0.010s")
    both = printed(
        run("deploy", "shop", "--hedge-budget", "0.02", "--hedge-delay", "0.05", "--single-flight", "-o", "json")
    )
    assert (both["hedging"], both["single_flight"]) == ({"budget": 0.02, "delay": "0.050s"}, True)
    neither = printed(run("deploy", "shop", "--hedge-budget", "0", "--no-single-flight", "-o", "json"))
    assert (neither["hedging"].get("budget", 0), neither.get("single_flight", False)) == (0, False)
    assert "hedge-budget" in run("deploy", "shop", "--hedge-delay", "1").stderr
    everywhere = printed(run("deploy", "shop", "--replicas", "all", "--pool", "cpu", "-o", "json"))
    assert (everywhere["all_workers"], everywhere["pool"]) == (True, "cpu")
    table = run("deployments").stdout
    assert "1 90 %, prod 10 %" in table
    assert "ACTIVE" in table
    assert run("undeploy", "shop").exit_code == 0
    assert run("undeploy", "shop").exit_code == 1


def test_a_deployment_that_fails_says_why(run: Run, mesh: FakeMesh) -> None:
    mesh.add_version()
    mesh.deployments.failure = errors.LoadFailed("version 1: tensor 'logits' differs\nby 0.5")
    result = run("deploy", "digits")
    assert result.exit_code == 1
    assert result.stderr == "error: version 1: tensor 'logits' differs by 0.5 [LOAD_FAILED]\n"


def test_delete_asks_first(run: Run, mesh: FakeMesh) -> None:
    mesh.add_version("digits", 1)
    mesh.add_version("digits", 2)
    refused = run("delete", "digits", "1", text="n\n")
    assert refused.exit_code == 1
    assert len(mesh.models.versions) == 2
    assert run("delete", "digits", "1", text="y\n").exit_code == 0
    assert list(mesh.models.versions) == ["models/digits/versions/2"]
    assert printed(run("delete", "digits", "--yes", "-o", "json")) == {
        "model": "digits",
        "version": None,
        "deleted": True,
    }
    assert not mesh.models.models


@pytest.mark.parametrize(
    "inputs",
    [
        ["image=[[1, 2, 3, 4]]"],
        ["[[1, 2, 3, 4]]"],
        ['{"image": [[1, 2, 3, 4]]}'],
        ["image=@x.npy"],
        ["@x.npy"],
        ["@x.npz"],
        ["@x.json"],
        ["image=@x.json"],
    ],
)
def test_infer_takes_inputs_in_many_forms(run: Run, mesh: FakeMesh, tmp_path: Path, inputs: list[str]) -> None:
    array = np.array([[1, 2, 3, 4]], np.float32)
    np.save(tmp_path / "x.npy", array)
    np.savez(tmp_path / "x.npz", image=array)
    content = array.tolist() if inputs == ["image=@x.json"] else {"image": array.tolist()}
    (tmp_path / "x.json").write_text(json.dumps(content))
    shown = printed(run("infer", "digits", *inputs, "-o", "json"))
    assert shown == {"deployment": "digits", "version": "7", "outputs": {"image": [[2, 4, 6, 8]]}}
    assert mesh.inference.requests[0].inputs[0].datatype == "FP32"


def test_infer_reads_standard_input(run: Run) -> None:
    shown = printed(run("infer", "digits", "-", "-o", "json", text='{"image": [[1, 1, 1, 1]]}'))
    assert shown["outputs"]["image"] == [[2, 2, 2, 2]]


def test_infer_at_random_fits_the_signature(run: Run, mesh: FakeMesh) -> None:
    shown = printed(run("infer", "digits", "--random", "--batch", "3", "--seed", "5", "-o", "json"))
    assert np.shape(shown["outputs"]["image"]) == (3, 4)
    assert printed(run("infer", "digits", "--random", "--batch", "3", "--seed", "5", "-o", "json")) == shown


def test_infer_streams_and_saves(run: Run, tmp_path: Path) -> None:
    result = run("infer", "digits", "--random", "--stream", "--save", "out.npz", "--version", "prod")
    assert result.exit_code == 0, result.output
    assert result.stdout.count("digits version prod") == 3
    assert np.load(tmp_path / "out.npz")["image"].shape == (1, 4)


def test_stats(run: Run) -> None:
    (row,) = printed(run("stats", "-o", "json"))
    assert row["inference_stats"]["success"] == {"count": 12, "ns": 12_000_000}
    shown = run("stats").stdout.split()
    assert shown[shown.index("digits") :] == ["digits", "7", "12", "0", "12", "3", "4.0", "1.00", "0.10", "-"]


def test_status(run: Run, mesh: FakeMesh) -> None:
    mesh.add_version()
    run("deploy", "digits")
    shown = printed(run("status", "-o", "json"))
    assert (shown["ready"], shown["gateway"], shown["trouble"]) == (True, mesh.address, None)
    assert [len(shown[part]) for part in ("workers", "deployments", "statistics")] == [3, 1, 1]
    table = run("status")
    assert table.exit_code == 0
    assert f"gateway {mesh.address} ready" in table.stdout


def test_status_without_a_mesh_fails_quickly(bare: Run) -> None:
    result = bare("status", "-a", "127.0.0.1:1", "-o", "json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["ready"] is False


def test_an_address_comes_from_flag_environment_or_home(
    run: Run, mesh: FakeMesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".infermesh" / "run" / "mesh.json").rename(tmp_path / "kept.json")
    lost = run("models")
    assert lost.exit_code == 1
    assert "infermesh up" in lost.stderr
    assert run("models", "--address", mesh.address).exit_code == 0
    monkeypatch.setenv("INFERMESH_ADDRESS", mesh.address)
    assert run("models").exit_code == 0
    monkeypatch.delenv("INFERMESH_ADDRESS")
    home = tmp_path / "elsewhere" / "run"
    home.mkdir(parents=True)
    (tmp_path / "kept.json").rename(home / "mesh.json")
    assert run("models", "--home", str(home.parent)).exit_code == 0
    monkeypatch.setenv("INFERMESH_HOME", str(home.parent))
    assert run("models").exit_code == 0


@pytest.mark.parametrize("content", ["", "[]", "{}", "not json", '{"gateway": "nonsense"}'])
def test_a_broken_address_file_is_one_line(run: Run, tmp_path: Path, content: str) -> None:
    (tmp_path / ".infermesh" / "run" / "mesh.json").write_text(content)
    result = run("models")
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)


WRONG: dict[str, list[tuple[str, ...]]] = {
    "push": [
        (),
        ("nothing.pt",),
        ("x.npy", "--label", "a"),
        ("x.npy", "--input", "x"),
        ("x.npy", "--max-batch-size", "-1"),
    ],
    "models": [("--output", "xml"), ("a", "b")],
    "versions": [(), ("--bogus",)],
    "alias": [("set",), ("set", "a", "b"), ("bogus",), ("get", "a")],
    "deploy": [
        (),
        ("d", "--traffic", "1"),
        ("d", "--traffic", "1=x"),
        ("d", "--replicas", "0"),
        ("d", "--replicas", "many"),
        ("d", "--timeout", "a"),
    ],
    "undeploy": [(), ("a", "b")],
    "deployments": [("--bogus",)],
    "workers": [("a",)],
    "bench": [(), ("d", "--rate", "0"), ("d", "--arrivals", "sometimes"), ("d", "--duration", "-1")],
    "simulate": [("--workers", "0"), ("--bogus",)],
    "status": [("--interval", "0")],
    "infer": [
        (),
        ("d",),
        ("d", "x=1", "--random"),
        ("digits", "image={"),
        ("digits", "@nothing.npy"),
        ("digits", "@nothing.json"),
        ("digits", "image=[[1],[2,3]]"),
        ("digits", "@x.txt"),
        ("d", "--random", "--batch", "0"),
    ],
    "stats": [("a", "b")],
    "logs": [("--lines", "-1"), ("--lines", "x")],
    "delete": [()],
    "doctor": [("--bogus",)],
    "config-schema": [(), ("kitchen",)],
    "version": [("x",)],
    "up": [("--workers", "0"), ("--bogus",)],
    "demo": [("--bogus",)],
    "gateway": [("--bogus",), ("--listen", "nonsense")],
    "registry": [("--bogus",)],
    "scheduler": [("--bogus",)],
    "worker": [("--bogus",), ("--weight", "x")],
}


def test_every_command_is_called_wrongly_below() -> None:
    assert set(WRONG) == set(COMMANDS)


@pytest.mark.parametrize(
    ("command", "arguments"),
    [(command, arguments) for command, rows in WRONG.items() for arguments in rows],
    ids=lambda value: value if isinstance(value, str) else " ".join(value) or "nothing",
)
def test_bad_usage_is_one_line_and_exit_code_2(
    run: Run, tmp_path: Path, command: str, arguments: tuple[str, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "x.npy", np.zeros(1))
    (tmp_path / "x.txt").write_text("text")
    result = run(command, *arguments)
    said = result.stderr + capfd.readouterr().err  # rooms write past the runner
    assert (result.exit_code, result.stdout) == (2, "")
    assert said.count("\n") == 1, said
    assert "Traceback" not in said


FAILURES: list[tuple[str, ...]] = [
    ("push", "x.onnx"),
    ("push", "x.pt"),
    ("push", "x.pt", "-n", "No Way", *SPECS),
    ("push", "x.bin", *SPECS),
    ("versions", "unknown"),
    ("alias", "set", "unknown", "prod", "1"),
    ("alias", "set", "digits", "7", "1"),
    ("alias", "get", "digits", "unknown"),
    ("alias", "delete", "digits", "unknown"),
    ("deploy", "unknown"),
    ("deploy", "Bad Id"),
    ("deploy", "d", "--version", "1", "--traffic", "1=1"),
    ("undeploy", "unknown"),
    ("infer", "unknown", "--random"),
    ("delete", "unknown", "--yes"),
    ("delete", "digits", "9", "--yes"),
    ("logs",),
    ("models", "--address", "nonsense"),
]


@pytest.mark.parametrize("arguments", FAILURES, ids=" ".join)
def test_failures_are_one_line_and_exit_code_1(
    run: Run, mesh: FakeMesh, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    mesh.add_version()
    for name in ("x.pt", "x.onnx", "x.bin"):
        (tmp_path / name).write_bytes(b"rubbish")
    result = run(*arguments)
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("error: ")
    assert result.stderr.rstrip().endswith("]")  # the reason
