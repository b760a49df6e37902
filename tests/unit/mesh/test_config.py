"""Configuration: precedence, and start-up errors that name the key."""

from collections.abc import Mapping
from dataclasses import FrozenInstanceError, dataclass, field
from pathlib import Path
from typing import Annotated

import pytest

from infermesh.errors import ConfigError
from infermesh.mesh.config import DrainConfig, ProcessConfig, load, settings


@dataclass(frozen=True)
class Config:
    listen: Annotated[str, "where to listen"] = "127.0.0.1:0"
    limit: Annotated[int, "how many"] = 3
    allow: bool = False
    names: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    process: ProcessConfig = field(default_factory=ProcessConfig)


def read(*argv: str, env: dict[str, str] | None = None) -> Config:
    return load(Config, argv, env or {}, room="worker")


def test_defaults() -> None:
    assert read() == Config()


def test_flag_beats_environment_beats_file(tmp_path: Path) -> None:
    file = tmp_path / "worker.yaml"
    file.write_text("limit: 5\nlisten: 127.0.0.1:1\ndrain:\n  timeout: 7\n")
    assert read("--config", str(file)).limit == 5
    env = {"INFERMESH_WORKER_LIMIT": "6", "INFERMESH_WORKER_CONFIG": str(file)}
    got = read("--listen", "127.0.0.1:9", env=env)
    assert (got.limit, got.listen, got.process.drain) == (6, "127.0.0.1:9", DrainConfig(timeout=7.0))


@pytest.mark.parametrize(
    ("suffix", "text"),
    [("toml", "limit = 5\n[drain]\ntimeout = 7\n"), ("json", '{"limit": 5, "drain": {"timeout": 7}}')],
)
def test_file_formats(tmp_path: Path, suffix: str, text: str) -> None:
    file = tmp_path / f"worker.{suffix}"
    file.write_text(text)
    got = read("--config", str(file))
    assert (got.limit, got.process.drain.timeout) == (5, 7.0)


def test_settings_of_every_process_stand_at_top_level() -> None:
    assert read("--log-level", "debug", "--ready-file", "/x").process.log.level == "debug"
    assert read(env={"INFERMESH_WORKER_DRAIN_TIMEOUT": "2"}).process.drain.timeout == 2.0


def test_booleans_tuples_and_mappings() -> None:
    got = read("--allow", "--names", "a, b", env={"INFERMESH_WORKER_LABELS": "zone=a,pool=cpu"})
    assert (got.allow, got.names, got.labels) == (True, ("a", "b"), {"zone": "a", "pool": "cpu"})
    assert read("--no-allow", env={"INFERMESH_WORKER_ALLOW": "true"}).allow is False


@pytest.mark.parametrize(
    ("argv", "env", "named"),
    [
        (["--limt", "4"], {}, "--limt"),
        (["--limit", "four"], {}, "limit"),
        (["--log-level", "loud"], {}, "log.level"),
        (["--drain-timeout", "-1"], {}, "drain.timeout"),
        ([], {"INFERMESH_WORKER_LIMT": "4"}, "INFERMESH_WORKER_LIMT"),
        ([], {"INFERMESH_WORKER_ALLOW": "perhaps"}, "allow"),
        (["--config", "/does/not/exist.yaml"], {}, "/does/not/exist.yaml"),
    ],
)
def test_mistakes_are_named(argv: list[str], env: dict[str, str], named: str) -> None:
    with pytest.raises(ConfigError, match=named.replace(".", r"\.")):
        read(*argv, env=env)


@pytest.mark.parametrize(
    ("text", "named"),
    [("limt: 4", "limt"), ("drain: {timeot: 1}", "timeot"), ("- a", "expected keys"), ("a: [", "can't read")],
)
def test_mistakes_in_the_file_are_named(tmp_path: Path, text: str, named: str) -> None:
    file = tmp_path / "worker.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=named):
        read("--config", str(file))


def test_a_mistake_is_told_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "worker.yaml"
    file.write_text("drain:\n  timeout: 1\n   lame_duck: 2\n")
    with pytest.raises(ConfigError, match=r"worker\.yaml: .*line 3") as refused:
        read("--config", str(file))
    assert "\n" not in refused.value.message


@dataclass(frozen=True)
class Bounds:
    low: Annotated[int, "fewest"] = 1
    high: Annotated[int, "most"] = 2

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError(f"low: expected at most high ({self.high}), got {self.low}")


def test_a_check_over_several_keys_speaks_for_itself() -> None:
    with pytest.raises(ConfigError) as refused:
        load(Bounds, ["--low", "3"], {}, room="worker")
    assert refused.value.message == "worker configuration: low: expected at most high (2), got 3"


def test_variables_of_other_rooms_are_not_ours() -> None:
    assert read(env={"INFERMESH_GATEWAY_LIMIT": "4", "INFERMESH_ADDRESS": "x"}) == Config()


def test_it_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        read().limit = 4  # type: ignore[misc]


def test_help_names_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        read("--help")
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert all(setting.flag in text for setting in settings(Config))
