"""Settings of the scheduler. Read once by `main`."""

from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field as Limit

from infermesh.mesh.config import ProcessConfig

_ADDRESS = Limit(pattern=r"^.+:[0-9]{1,5}$")


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
    process: ProcessConfig = field(default_factory=ProcessConfig)
