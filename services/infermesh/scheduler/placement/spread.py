"""Spreads: the worker with the least on it."""

from infermesh.scheduler.placement.base import Candidate, Need


class Spread:
    """Prefers workers without other versions of the deployment, then those that would be least full, then the idlest.

    Siblings first, since a canary beside its stable version shares its fate and its device.
    """

    def score(self, need: Need, candidate: Candidate) -> tuple[float, ...]:
        """See PlacementPolicy."""
        fill = (candidate.used + need.memory) / candidate.memory if candidate.memory else 0.0
        return (-candidate.siblings, -fill, -candidate.held)
