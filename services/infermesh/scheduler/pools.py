"""Settings of worker pools: who decides how many workers each has, and by what."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import ConfigDict
from pydantic import Field as Limit

_CLOSED = ConfigDict(extra="forbid")

Autoscaling = Literal["none", "hpa", "keda", "builtin"]
FROM_ZERO: frozenset[Autoscaling] = frozenset({"keda", "builtin"})
"""What can start the first worker of a pool."""


@dataclass(frozen=True)
class PoolTarget:
    """What each worker of a pool should have to do; 0 leaves a signal out."""

    __pydantic_config__ = _CLOSED

    queue_rows: Annotated[float, Limit(ge=0, description="rows that may wait in gateways for each worker")] = 16.0
    utilization: Annotated[
        float, Limit(ge=0, le=1, description="share of the calls that workers take at a time that they should have")
    ] = 0.7
    wait: Annotated[float, Limit(ge=0, description="seconds that a call may have to wait for a worker")] = 1.0

    def __post_init__(self) -> None:
        if not (self.queue_rows or self.utilization or self.wait):
            raise ValueError("expected one of queue_rows, utilization and wait above 0, got none")


@dataclass(frozen=True)
class PoolConfig:
    """How one pool of workers is scaled. Its workers have the label `pool` with the pool's name."""

    __pydantic_config__ = _CLOSED

    autoscaling: Annotated[
        Autoscaling,
        Limit(
            description="who sets the number of workers: none (people), hpa, keda, or builtin (the scheduler itself)"
        ),
    ] = "none"
    min: Annotated[int, Limit(ge=0, le=10_000, description="fewest workers; 0 lets keda and builtin stop all")] = 1
    max: Annotated[int, Limit(ge=1, le=10_000, description="most workers")] = 10
    target: PoolTarget = field(default_factory=PoolTarget)
    scale_down_delay: Annotated[
        float, Limit(ge=0, le=86_400, description="seconds for which fewer workers must have sufficed before some stop")
    ] = 120.0
    zero_delay: Annotated[
        float, Limit(ge=0, le=86_400, description="seconds without any call after which the last workers stop")
    ] = 300.0
    workload: Annotated[str, Limit(description="Kubernetes Deployment of the workers; builtin needs it")] = ""
    device: Annotated[
        Literal["cpu", "cuda", "mps", "xpu"],
        Limit(description="device of the workers: tells what they could run while there are none"),
    ] = "cpu"

    def __post_init__(self) -> None:
        if self.min > self.max:
            raise ValueError(f"min: expected at most max ({self.max}), got {self.min}")
        if self.min == 0 and self.autoscaling == "hpa":
            raise ValueError("min: expected at least 1 with autoscaling hpa, got 0; keda and builtin go down to 0")
        if self.autoscaling == "builtin" and not self.workload:
            raise ValueError("workload: expected the name of a Kubernetes Deployment with autoscaling builtin, got ''")

    @property
    def from_zero(self) -> bool:
        """Tells whether the pool may have no worker, and gets one when calls wait for it."""
        return self.min == 0 and self.autoscaling in FROM_ZERO
