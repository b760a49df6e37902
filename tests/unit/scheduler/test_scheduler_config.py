"""Settings of the scheduler: every bad value is an error that names the key."""

import pytest

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
