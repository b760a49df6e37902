"""What becomes of deployments whose pool may grow from nothing, while it has no worker. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from infermesh.scheduler import traffic
from infermesh.scheduler.model import Deployment, Worker
from infermesh.scheduler.standing import Standing
from infermesh.scheduler.wants import Want


def pools_for(deployment: Deployment, from_zero: Mapping[str, str]) -> list[str]:
    """Returns the pools among `from_zero` whose workers may hold some target of the deployment.

    `from_zero` are the pools that grow from nothing, with the kind of their devices; an empty kind may be any.
    """
    targets = (deployment.versions.get(target.version) for target in deployment.targets)
    needs = {Want(deployment, version).device for version in targets if version is not None}
    return [
        pool
        for pool, device in from_zero.items()
        if deployment.pool in ("", pool) and any(not device or need in ("", device) for need in needs)
    ]


def is_awaited(deployment: Deployment, standings: Mapping[str, Standing], from_zero: Mapping[str, str]) -> bool:
    """Tells whether calls are worth holding: nothing can answer them now, and some pool of `from_zero` may grow for
    them."""
    return not traffic.shares(deployment, standings) and bool(pools_for(deployment, from_zero))


def is_unmanned(deployment: Deployment, workers: Iterable[Worker]) -> bool:
    """Tells whether a deployment on all workers has none: its pool is empty, or about to be."""
    members = (worker for worker in workers if deployment.pool in ("", worker.pool) and not worker.draining)
    return deployment.all_workers and not any(members)


class LoadTimes:
    """How long versions took to load, kept while no worker has them: what a call that waits for one may reckon with."""

    def __init__(self) -> None:
        self._seconds: dict[tuple[str, str], float] = {}

    def complete(self, deployment: Deployment, standings: Mapping[str, Standing]) -> dict[str, Standing]:
        """Returns `standings` with what was measured earlier where nothing is measured now; keeps what is."""
        found = {}
        for number, standing in standings.items():
            version = deployment.versions.get(number)
            if version is not None:
                key = (deployment.id, version.digest)
                seconds = standing.load_seconds or self._seconds.get(key, 0.0)
                if seconds:
                    self._seconds[key] = seconds
                    standing = replace(standing, load_seconds=seconds)
            found[number] = standing
        return found

    def forget(self, deployments: Sequence[Deployment]) -> None:
        """Forgets every version but those of `deployments`."""
        known = {
            (deployment.id, version.digest) for deployment in deployments for version in deployment.versions.values()
        }
        self._seconds = {key: seconds for key, seconds in self._seconds.items() if key in known}
