"""What is simulated, as data."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from infermesh.gateway.admission import Limits
from infermesh.simulation.curves import Curve
from infermesh.worker.batcher import Planner, plan


@dataclass(frozen=True)
class Noise:
    """How executions differ from their curve: lognormal with a deviation of `sigma`, as on a core of their own."""

    sigma: float = 0.03
    stalls: float = 1e-4
    """Share of the executions that stall."""
    stall: float = 10.0
    """How many times as long a stalled execution takes."""


@dataclass(frozen=True)
class Model:
    """A model that every worker of the simulation holds."""

    curve: Curve
    max_batch: int
    max_delay: float = 0.0
    """Seconds that the batch planner may hold a batch back."""


@dataclass(frozen=True)
class Scenario:
    """A fleet and how it is driven. Times are in seconds."""

    models: Mapping[str, Model]
    workers: int = 1
    policy: str = "least_load"
    seed: int = 0
    noise: Noise = field(default_factory=Noise)
    slow: Mapping[int, float] = field(default_factory=dict)
    """By number of a worker, how many times as long its executions take."""
    delay: float = 0.0002
    """One way between gateway and worker."""
    limits: Limits = field(default_factory=Limits)
    planner: Callable[[], Planner] = lambda: plan
    """Makes the batch planner of one model on one worker."""

    def speeds(self) -> Sequence[float]:
        """Returns for each worker how many times as long its executions take."""
        return [self.slow.get(number, 1.0) for number in range(self.workers)]
