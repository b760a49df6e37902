"""Settings of the scheduler: every bad value is an error that names the key."""

from pathlib import Path

import pytest

from infermesh.cli.schema import schema_of
from infermesh.errors import ConfigError
from infermesh.mesh.config import load
from infermesh.scheduler.config import SchedulerConfig


def read(*argv: str, **environ: str) -> SchedulerConfig:
    return load(SchedulerConfig, argv, environ, room="scheduler")


def test_defaults() -> None:
    config = read()
    assert (config.heartbeat_interval, config.placement, config.listen) == (1.0, "spread", "127.0.0.1:0")


def test_flags_and_environment() -> None:
    config = read("--registry", "r:1", "--heartbeat-interval", "0.5", INFERMESH_SCHEDULER_PLACEMENT="binpack")
    assert (config.registry, config.heartbeat_interval, config.placement) == ("r:1", 0.5, "binpack")


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--heartbeat-interval", "0"),
        ("--heartbeat-interval", "-1"),
        ("--heartbeat-interval", "nan"),
        ("--heartbeat-interval", "soon"),
        ("--report-interval", "0"),
        ("--registry", "nowhere"),
        ("--listen", ":"),
        ("--leadership", "raft"),
        ("--lease-name", "Not_a_name"),
        ("--lease-namespace", "a.b"),
        ("--lease-duration", "7.5"),
        ("--lease-duration", "7"),  # the default renew_deadline leaves no time to stop
        ("--lease-renew-deadline", "nan"),
        ("--lease-renew-deadline", "2"),  # not above the default retry
        ("--lease-retry", "7"),
    ],
)
def test_a_bad_value_is_refused_naming_the_key(flag: str, value: str) -> None:
    with pytest.raises(ConfigError, match=flag.removeprefix("--").replace("lease-", "lease.").replace("-", "_")):
        read(flag, value)


def test_an_unknown_variable_is_refused() -> None:
    with pytest.raises(ConfigError, match="INFERMESH_SCHEDULER_PLACMENT"):
        read(INFERMESH_SCHEDULER_PLACMENT="binpack")


def written(tmp_path: Path, text: str) -> SchedulerConfig:
    file = tmp_path / "scheduler.yaml"
    file.write_text(text)
    return read("--config", str(file))


def test_pools_come_from_a_file(tmp_path: Path) -> None:
    config = written(tmp_path, "pools: {cpu: {autoscaling: keda, min: 0, target: {wait: 0.5}}, gpu: {device: cuda}}")
    cpu, gpu = config.pools["cpu"], config.pools["gpu"]
    assert (cpu.autoscaling, cpu.min, cpu.target.wait, cpu.from_zero) == ("keda", 0, 0.5, True)
    assert (gpu.autoscaling, gpu.device, gpu.from_zero) == ("none", "cuda", False)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("{cpu: {autoscalling: keda}}", "pools.cpu.autoscalling"),
        ("{cpu: {autoscaling: magic}}", "pools.cpu.autoscaling"),
        ("{cpu: {target: {queue: 2}}}", "pools.cpu.target.queue"),
        ("{cpu: {target: {utilization: 70}}}", "pools.cpu.target.utilization"),
        ("{cpu: {target: {queue_rows: 0, utilization: 0, wait: 0}}}", "pools.cpu.target"),
        ("{cpu: {min: 5, max: 2}}", "pools.cpu: .*min"),
        ("{cpu: {min: 0, autoscaling: hpa}}", "pools.cpu: .*min"),
        ("{cpu: {min: -1}}", "pools.cpu.min"),
        ("{cpu: {max: 0}}", "pools.cpu.max"),
        ("{cpu: {scale_down_delay: soon}}", "pools.cpu.scale_down_delay"),
        ("{cpu: {autoscaling: builtin}}", "pools.cpu: .*workload"),
        ("{C_PU: {}}", "pools.C_PU"),
        ("[cpu]", "pools"),
    ],
)
def test_a_wrong_pool_is_refused_in_one_line_that_names_the_key(tmp_path: Path, text: str, key: str) -> None:
    with pytest.raises(ConfigError, match=f"^scheduler configuration: {key}") as caught:
        written(tmp_path, f"pools: {text}")
    assert "\n" not in caught.value.message


def test_the_schema_shows_pools_and_is_closed() -> None:
    pools = schema_of("scheduler")["properties"]["pools"]
    (pool,) = pools["patternProperties"].values()
    assert pools["additionalProperties"] is False
    assert pool["additionalProperties"] is False
    assert pool["properties"]["target"]["additionalProperties"] is False
    assert pool["properties"]["autoscaling"]["enum"] == ["none", "hpa", "keda", "builtin"]
