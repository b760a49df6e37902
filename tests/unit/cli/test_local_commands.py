"""Commands that need no mesh: help, version, doctor, logs, config-schema, and how the table of commands works."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from infermesh.cli import doctor, logs, schema
from infermesh.cli.group import explain
from infermesh.cli.main import COMMANDS
from infermesh.cli.output import bytes_text, to_json
from infermesh.cli.tensor_args import random_inputs
from infermesh.errors import ConfigError, MeshError
from infermesh.mesh.config import load
from infermesh.v1 import model_pb2, tensor_pb2, worker_pb2
from tests.unit.cli.conftest import Run

LINE = '{"event": "listening", "level": "info", "timestamp": "2026-01-02T03:04:05.678901Z", "port": 80}\n'


def test_help_lists_every_command_with_its_line(bare: Run) -> None:
    result = bare("--help")
    assert result.exit_code == 0
    for name, entry in COMMANDS.items():
        assert name in result.stdout
        assert entry.help in " ".join(result.stdout.split())


def test_no_arguments_shows_help(bare: Run) -> None:
    assert bare().stdout == bare("--help").stdout


def test_help_imports_no_command_and_nothing_heavy() -> None:
    code = (
        "import sys; from infermesh.cli.main import build\n"
        "try: build()(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'grpc', 'numpy', 'sqlalchemy', 'torch', 'infermesh.client'} & set(sys.modules)\n"
        "sys.exit(str(sorted(heavy)) if heavy else 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_help(bare: Run, command: str, capfd: pytest.CaptureFixture[str]) -> None:
    result = bare(command, "--help")
    text = result.stdout + capfd.readouterr().out
    assert result.exit_code == 0
    assert "usage" in text.lower()
    assert "--" in text


def test_version(bare: Run) -> None:
    assert bare("version").stdout == bare("--version").stdout
    assert bare("version").stdout.strip()


def test_a_typo_is_met_with_a_suggestion(bare: Run) -> None:
    result = bare("deplyo")
    assert result.exit_code == 2
    assert "'deploy'" in result.stderr


def test_completion_knows_the_commands(tmp_path: Path) -> None:
    environment = {"_INFERMESH_COMPLETE": "complete_bash", "COMP_WORDS": "infermesh de", "COMP_CWORD": "1"}
    code = "from infermesh.cli.main import main; main()"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert shown.stdout.split() == ["demo", "deploy", "deployments", "delete"]


def test_faults_of_ours_keep_their_trace() -> None:
    assert explain(KeyError("x")) is None
    assert explain(MeshError("two\nlines")) == ("error: two lines [INTERNAL]", 1)
    assert explain(ConfigError("bad")) == ("error: bad [CONFIG]", 2)
    assert explain(typer.Abort()) == ("error: aborted", 1)


def test_doctor_is_well_here(bare: Run) -> None:
    findings = {finding["name"]: finding for finding in json.loads(bare("doctor", "-o", "json").stdout)}
    assert findings["shared libpython"]["detail"].endswith((".so.1.0", ".so", ".dylib"))
    assert all(finding["ok"] for finding in findings.values() if finding["needed"])
    assert "libpython" in bare("doctor").stdout


def test_doctor_names_what_is_missing_and_the_command(bare: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "find_spec", lambda module: None)
    result = bare("doctor")
    assert result.exit_code == 1
    assert "pip install 'infermesh[worker]'" in " ".join(result.stdout.split())


def test_doctor_forgives_what_is_not_needed(bare: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = doctor.Finding("onnxruntime", False, "not installed", needed=False, fix="x")
    monkeypatch.setattr(doctor, "CHECKS", [lambda home: missing])
    assert bare("doctor").exit_code == 0


def test_doctor_without_the_library_that_envoy_needs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def missing() -> Path:
        raise ConfigError("none")

    monkeypatch.setattr("infermesh.gateway.envoy.shared_libpython", missing)
    finding = doctor.shared_library(tmp_path)
    assert not finding.ok
    assert f"libpython3.{sys.version_info[1]}" in finding.detail


@pytest.mark.parametrize(
    ("tools", "command"),
    [
        ({"apt-get"}, "sudo apt-get install libpython3.11"),
        ({"dnf"}, "sudo dnf install python3.11-libs"),
        ({"brew"}, "brew install python@3.11"),
        (set(), "install libpython3.11 with your system's package manager"),
    ],
)
def test_doctor_knows_package_managers(monkeypatch: pytest.MonkeyPatch, tools: set[str], command: str) -> None:
    monkeypatch.setattr(doctor.shutil, "which", lambda name: name if name in tools else None)
    assert doctor.system_package("libpython3.11") == command


def test_doctor_looks_where_the_home_would_be(tmp_path: Path) -> None:
    assert str(tmp_path) in doctor.disk(tmp_path / "not" / "yet").detail


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "gateway.log").write_text("".join(LINE.replace("80", str(n)) for n in range(5)) + "not json\n")
    (folder / "worker-1.log").write_text('["a list"]\n')
    return tmp_path


def test_logs_are_made_readable(bare: Run, home: Path) -> None:
    shown = bare("logs", "--home", str(home), "-n", "2").stdout.splitlines()
    assert shown == [
        "gateway    03:04:05.678 info    listening port=4",
        "gateway    not json",
        'worker-1   ["a list"]',
    ]


def test_logs_of_one_service_for_machines(bare: Run, home: Path) -> None:
    shown = bare("logs", "gateway", "--home", str(home), "-o", "json").stdout.splitlines()
    assert json.loads(shown[0])["port"] == 0
    assert len(shown) == 6


def test_logs_of_an_unknown_service(bare: Run, home: Path) -> None:
    result = bare("logs", "kitchen", "--home", str(home))
    assert result.exit_code == 1
    assert "gateway, worker-1" in result.stderr


def test_logs_are_followed_without_half_lines(home: Path) -> None:
    file = home / "logs" / "gateway.log"
    places = {"gateway": file.stat().st_size}
    with file.open("a") as stream:
        stream.write("whole é\nhal")
    assert list(logs._new_lines("gateway", file, places)) == ["whole é\n"]
    with file.open("a") as stream:
        stream.write("f\n")
    assert list(logs._new_lines("gateway", file, places)) == ["half\n"]
    assert list(logs._new_lines("gateway", file, places)) == []


@given(st.text())
def test_any_line_can_be_shown(line: str) -> None:
    assert isinstance(logs.pretty(line), str)


ROOMS = list(schema.Room)


@pytest.mark.parametrize("room", ROOMS)
def test_schemas_describe_every_setting(bare: Run, room: str) -> None:
    shown = json.loads(bare("config-schema", room).stdout)
    assert "process" not in shown["properties"]
    assert shown["properties"]["drain"]["properties"]["timeout"]["description"]
    assert shown["additionalProperties"] is False
    assert shown["properties"]["log"]["additionalProperties"] is False
    for node in shown["properties"].values():
        assert node.get("description")
    assert "$ref" not in json.dumps(shown)


@pytest.mark.parametrize("room", ROOMS)
def test_the_defaults_of_a_schema_are_a_configuration(room: str, tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps(_defaults(schema.schema_of(room))))
    cls = schema.config_class(room)
    assert load(cls, ["--config", str(file)], {}, room=room) == load(cls, [], {}, room=room)


def _defaults(node: dict[str, Any]) -> Any:
    if "properties" in node and "default" not in node:
        return {key: _defaults(child) for key, child in node["properties"].items()}
    return node.get("default", {})


def test_json_has_numbers_where_the_protos_have() -> None:
    version = model_pb2.ModelVersion(memory_bytes=1 << 40)
    version.files.add(path="a", size_bytes=5)
    version.signature.inputs.add(name="x", shape=[-1, 4])
    version.samples.add(atol=0.5)
    version.create_time.seconds = 1
    shown = to_json(version)
    assert shown["memory_bytes"] == 1 << 40
    assert shown["files"][0]["size_bytes"] == 5
    assert shown["signature"]["inputs"][0]["shape"] == [-1, 4]
    assert shown["create_time"] == "1970-01-01T00:00:01Z"
    worker = to_json(worker_pb2.Worker(labels={"1": "2"}, device=worker_pb2.Device(memory_free_bytes=7)))
    assert worker["labels"] == {"1": "2"}
    assert worker["device"]["memory_free_bytes"] == 7


@given(st.integers(0, 1 << 62))
def test_sizes_are_short(size: int) -> None:
    assert len(bytes_text(size)) <= 14


def test_random_inputs_fit_every_datatype() -> None:
    from infermesh import datatypes, tensors

    specs = [
        tensor_pb2.TensorSpec(name=datatype, datatype=datatype, shape=[-1, 3])
        for datatype in [*datatypes.ITEM_SIZES, "BYTES"]
        if datatype != "BF16"
    ]
    made = random_inputs(specs, 2, 0)
    for spec in specs:
        assert made[spec.name].shape == (2, 3)
        assert tensors.datatype_of(made[spec.name]) == spec.datatype
