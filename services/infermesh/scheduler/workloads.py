"""The seam to what runs the workers: how many there shall be, and which of them goes first. Its contract is
tests/contract/test_workloads.py."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Scale:
    """How many workers a workload is asked to have. `version` differs after every change of the workload."""

    replicas: int
    version: str = ""


class Workloads(Protocol):
    """The API of a cluster, as far as scaling needs it.

    Nothing blocks, every call ends within seconds, and all may be cancelled; what was sent before may still be carried
    out. All raise NotFound for a name that is not there, PermissionDenied if this process may not, and NotReady if the
    API does not answer, or can't now.
    """

    async def scale(self, workload: str) -> Scale:
        """Returns how many workers a workload is asked to have."""
        ...

    async def set_scale(self, workload: str, scale: Scale) -> Scale:
        """Asks for so many workers, if the workload still has `scale.version`; returns what was set.

        Raises Conflict if it has changed meanwhile, InvalidInput for a number that can't be.
        """
        ...

    async def set_deletion_cost(self, worker: str, cost: int) -> None:
        """Writes down what the end of a worker would cost: of one workload, those with the lowest go first.

        Raises InvalidInput for a cost of more than 32 bits.
        """
        ...
