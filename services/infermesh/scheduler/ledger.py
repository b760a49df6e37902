"""The books of one worker while a plan is made: what is there, what it shall hold, how much memory that takes. Pure."""

from collections import Counter
from collections.abc import Mapping

from infermesh.names import Target
from infermesh.scheduler.model import Assigned, Held, State, Version, Worker
from infermesh.scheduler.placement.base import Candidate
from infermesh.scheduler.wants import Want


def charge(held: Held, version: Version | None) -> int:
    """Returns the bytes that a held version counts for: what was measured, at least what its version is taken to need.

    One that failed holds nothing but what is measured, since it isn't tried again there. `version` is None where the
    registry no longer knows it.
    """
    expected = 0 if version is None or version.digest != held.digest or held.state is State.FAILED else version.memory
    return max(held.memory, expected)


class Ledger:
    """The books of one worker.

    `used` counts in bytes everything that is there, also what is on its way out, and everything newly given.
    """

    __slots__ = ("assigned", "count", "crowded", "held", "siblings", "used", "worker")

    def __init__(self, worker: Worker, versions: Mapping[Target, Version]) -> None:
        self.worker = worker
        self.held = _by_target(worker)
        self.assigned: dict[Target, Assigned] = {}
        self.siblings = Counter(held.deployment for held in worker.held)
        self.count = len(worker.held)
        self.used = sum(charge(held, versions.get(held.target)) for held in worker.held)
        self.crowded = self._crowded(versions)

    def _crowded(self, versions: Mapping[Target, Version]) -> frozenset[Target]:
        """What must stop loading because something else turned out larger than expected. What is ready stays."""
        excess = self.used - self.worker.memory if self.worker.memory else 0
        found = set()
        for target in sorted(self.held, reverse=True):
            if excess <= 0:
                break
            if self.held[target].state is State.LOADING:
                found.add(target)
                excess -= charge(self.held[target], versions.get(target))
        return frozenset(found)

    def free(self) -> int | None:
        """Returns the bytes that may still be given; None where memory is not limited."""
        return max(0, self.worker.memory - self.used) if self.worker.memory else None

    def has_room(self, want: Want) -> bool:
        """Tells whether the memory suffices."""
        return not self.worker.memory or self.used + want.version.memory <= self.worker.memory

    def open_to(self, want: Want) -> bool:
        """Tells whether the version may be placed here anew.

        Not while any copy of the target is still there: one that is going must be gone before it can come back.
        """
        worker, target = self.worker, want.target
        if worker.draining or target in self.held or target in self.assigned:
            return False
        return self.has_room(want) and want.fits(worker)

    def keep(self, held: Held) -> None:
        """Leaves here what is here."""
        self.assigned[held.target] = Assigned(held.deployment, held.version, held.digest)

    def place(self, want: Want) -> None:
        """Gives the worker something new."""
        deployment = want.deployment.id
        self.assigned[want.target] = Assigned(deployment, want.version.number, want.version.digest)
        self.siblings[deployment] += 1
        self.count += 1
        self.used += want.version.memory

    def candidate(self, deployment: str) -> Candidate:
        """Returns what a placement policy sees of the worker."""
        return Candidate(self.worker.id, self.worker.memory, self.used, self.count, self.siblings[deployment])


def _by_target(worker: Worker) -> dict[Target, Held]:
    """A copy that is going may be there beside the one that takes its place: the latter is what counts."""
    found: dict[Target, Held] = {}
    for held in sorted(worker.held, key=lambda held: held.state is not State.UNLOADING):
        found[held.target] = held
    return found
