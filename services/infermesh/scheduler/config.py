"""Settings of the scheduler. Read once by `main`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal

from pydantic import Field as Limit

from infermesh.errors import ConfigError
from infermesh.mesh.config import ProcessConfig
from infermesh.scheduler.pools import PoolConfig

CLOSING: Final = 1.0
"""Seconds that a leader has at least to stop everything, between giving up and the end of its lease."""
_ADDRESS = Limit(pattern=r"^.+:[0-9]{1,5}$")
_OBJECT = r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?"
_SPACE = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"


@dataclass(frozen=True)
class LeaseConfig:
    """The Lease by which several schedulers agree on the one that leads. Times are in seconds.

    Raises ConfigError unless `retry` < `renew_deadline` <= `duration` - `CLOSING`.
    """

    name: Annotated[str, Limit(pattern=f"^{_OBJECT}$"), "name of the Lease object"] = "infermesh-scheduler"
    namespace: Annotated[str, Limit(pattern=f"^({_SPACE})?$"), "its namespace; empty: that of the pod"] = ""
    identity: Annotated[str, "name of this process as the holder; empty: the host's name"] = ""
    kubeconfig: Annotated[str, "file that says how to reach the API server; empty: as a pod of its cluster"] = ""
    duration: Annotated[int, Limit(ge=2, le=3600), "seconds without renewal after which another may lead"] = 10
    renew_deadline: Annotated[float, Limit(gt=0), "seconds without renewal after which the leader stops leading"] = 7.0
    retry: Annotated[float, Limit(ge=0.1), "seconds between two tries to get or to renew the lease"] = 2.0

    def __post_init__(self) -> None:
        if not self.renew_deadline <= self.duration - CLOSING:
            most = f"lease.duration - {CLOSING:g} ({self.duration - CLOSING:g})"
            raise ConfigError(f"lease.renew_deadline: expected at most {most}, got {self.renew_deadline:g}")
        if not self.retry < self.renew_deadline:
            raise ConfigError(
                f"lease.retry: expected less than lease.renew_deadline ({self.renew_deadline:g}), got {self.retry:g}"
            )


@dataclass(frozen=True)
class SchedulerConfig:
    """Settings of one scheduler process."""

    listen: Annotated[str, _ADDRESS, "host:port of the scheduler's services; port 0 takes a free one"] = "127.0.0.1:0"
    registry: Annotated[str, _ADDRESS, "host:port of the registry"] = "127.0.0.1:8302"
    heartbeat_interval: Annotated[
        float, Limit(ge=0.05, le=60), "seconds between heartbeats; a worker silent for three of them is gone"
    ] = 1.0
    report_interval: Annotated[float, Limit(ge=0.1), "seconds after which unchanged states are reported again"] = 15.0
    placement: Annotated[str, "how workers are chosen: spread, binpack or one added by a plug-in"] = "spread"
    leadership: Annotated[
        Literal["none", "lease"],
        "how one of several schedulers comes to lead: none (there is but one), lease",
    ] = "none"
    lease: LeaseConfig = field(default_factory=LeaseConfig)
    scaler_listen: Annotated[
        str, Limit(pattern=r"^(.+:[0-9]{1,5})?$"), "host:port of KEDA's external scaler; empty: not served"
    ] = ""
    deletion_cost: Annotated[
        bool, "write on each worker's pod what its end would cost, so that Kubernetes ends idle ones first"
    ] = False
    pools: Annotated[
        Mapping[Annotated[str, Limit(pattern=f"^{_SPACE}$")], PoolConfig],
        Limit(json_schema_extra={"additionalProperties": False}),
        "how each pool of workers is scaled, by its name; in a file only",
    ] = field(default_factory=dict)
    process: ProcessConfig = field(default_factory=ProcessConfig)
