"""A `scheduler.workloads.Workloads` in memory, which refuses what a cluster's API refuses."""

from collections.abc import Iterable, Mapping

from infermesh.errors import Conflict, InvalidInput, MeshError, NotFound
from infermesh.scheduler.workloads import Scale


class FakeWorkloads:
    """Workloads with their numbers of workers, and the workers that there are.

    `failure` is raised by every call while it is set. `writes` is how many calls have changed something.
    """

    def __init__(self, replicas: Mapping[str, int], workers: Iterable[str] = ()) -> None:
        self._scales = {name: Scale(count, "1") for name, count in replicas.items()}
        self.costs: dict[str, int | None] = dict.fromkeys(workers)
        """What was written down for each worker; None if nothing was."""
        self.failure: MeshError | None = None
        self.writes = 0

    @property
    def replicas(self) -> dict[str, int]:
        """How many workers each workload is asked to have."""
        return {name: scale.replicas for name, scale in self._scales.items()}

    def change(self, workload: str, replicas: int) -> None:
        """Somebody else sets a number."""
        self._scales[workload] = Scale(replicas, str(int(self._scales[workload].version) + 1))

    async def scale(self, workload: str) -> Scale:
        """See Workloads."""
        self._fail()
        if workload not in self._scales:
            raise NotFound.of("Deployment", workload)
        return self._scales[workload]

    async def set_scale(self, workload: str, scale: Scale) -> Scale:
        """See Workloads."""
        found = await self.scale(workload)
        if found.version != scale.version:
            raise Conflict(f"Deployment {workload}: has version {found.version}, not {scale.version}")
        if scale.replicas < 0:
            raise InvalidInput(f"spec.replicas: {scale.replicas} is below 0")
        if scale.replicas != found.replicas:
            self.change(workload, scale.replicas)
            self.writes += 1
        return self._scales[workload]

    async def set_deletion_cost(self, worker: str, cost: int) -> None:
        """See Workloads."""
        self._fail()
        if worker not in self.costs:
            raise NotFound.of("pod", worker)
        if not -(2**31) <= cost < 2**31:
            raise InvalidInput(f"pod {worker}: {cost} is no 32-bit integer")
        self.costs[worker] = cost
        self.writes += 1

    def _fail(self) -> None:
        if self.failure is not None:
            raise self.failure
