"""Packs: the fullest worker that still has room, so that others stay empty and can be given back."""

from infermesh.scheduler.placement.base import Candidate, Need


class Binpack:
    """Prefers the worker with the least memory left afterwards, then the one with the most on it.

    A worker whose memory is not limited goes last among those that hold as much: it can take what fits nowhere else.
    """

    def score(self, need: Need, candidate: Candidate) -> tuple[float, ...]:
        """See PlacementPolicy."""
        fill = (candidate.used + need.memory) / candidate.memory if candidate.memory else 0.0
        return (fill, candidate.held)
