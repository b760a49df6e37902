"""Which pools a deployment's calls count to, and what there is to do for each pool. Pure.

A deployment that names its pool counts to that one. Any other counts to every pool that has a worker which suits, and
to every pool without workers that would start some whose device suits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf

from infermesh.scheduler.awaiting import pools_for
from infermesh.scheduler.demand import Demand, Load
from infermesh.scheduler.model import Deployment, Version, Worker
from infermesh.scheduler.pools import PoolConfig
from infermesh.scheduler.wants import Want


@dataclass(frozen=True, slots=True)
class PoolDemand:
    """What there is to do for one pool.

    `workers` are those alive that stay; `rows` wait in gateways; `busy` is the sum over the workers of the share of
    their calls that they have; `wait` is what a call would wait, in seconds; `used` is when the pool last had a call.
    `known` is False while no gateway tells.
    """

    known: bool = False
    workers: int = 0
    rows: int = 0
    busy: float = 0.0
    wait: float = 0.0
    in_flight: int = 0
    used: float = -inf


class Pool:
    """One pool with its workers of this moment."""

    def __init__(self, name: str, config: PoolConfig, workers: Sequence[Worker]) -> None:
        self._name = name
        self._config = config
        self.workers = [worker for worker in workers if worker.pool == name]
        """Its workers, those that are draining too."""

    def demand(self, demand: Demand, deployments: Mapping[str, Deployment]) -> PoolDemand:
        """Returns what there is to do for it."""
        staying = [worker for worker in self.workers if not worker.draining]
        loads = [demand.loads.get(worker.id, Load()) for worker in staying]
        waiting = [
            item for name, item in demand.waiting.items() if name in deployments and self._counts(deployments[name])
        ]
        used = [
            when for name, when in demand.used.items() if name in deployments and self._uses(deployments[name], demand)
        ]
        return PoolDemand(
            known=demand.known,
            workers=len(staying),
            rows=sum(item.rows for item in waiting),
            busy=sum(load.share for load in loads),
            wait=max((item.wait for item in waiting), default=0.0),
            in_flight=sum(load.in_flight for load in loads),
            used=max(used, default=-inf),
        )

    def _counts(self, deployment: Deployment) -> bool:
        if deployment.pool:
            return deployment.pool == self._name
        wants = [Want(deployment, version) for version in _targets(deployment)]
        staying = [worker for worker in self.workers if not worker.draining]
        if staying:
            return any(want.fits(worker) for want in wants for worker in staying)
        return self._config.from_zero and bool(pools_for(deployment, {self._name: self._config.device}))

    def _uses(self, deployment: Deployment, demand: Demand) -> bool:
        """Tells whether calls of the deployment may have come here: not just anywhere where it suits."""
        if deployment.pool:
            return deployment.pool == self._name
        if deployment.id in demand.waiting:
            return self._counts(deployment)
        return any(held.deployment == deployment.id for worker in self.workers for held in worker.held)


def _targets(deployment: Deployment) -> list[Version]:
    numbers = [target.version for target in deployment.targets]
    return [deployment.versions[number] for number in numbers if number in deployment.versions]
