"""The seam of placement policies."""

from typing import NamedTuple, Protocol


class Need(NamedTuple):
    """A version that shall be placed. `memory` is in bytes."""

    deployment: str
    version: str
    memory: int


class Candidate(NamedTuple):
    """A worker that can take it: device, backend and memory are seen to.

    `memory` is what models may use there and `used` what they use already, in bytes; `memory` is 0 where it is not
    limited. `held` counts the versions on it, `siblings` those of the same deployment.
    """

    worker: str
    memory: int
    used: int
    held: int
    siblings: int


class PlacementPolicy(Protocol):
    """Prefers one worker over another."""

    def score(self, need: Need, candidate: Candidate) -> tuple[float, ...]:
        """Returns how good the candidate is: compared element by element, the higher goes first.

        Pure: the same arguments give the same answer, always of the same length and without NaN. Does not block. Ties
        go to the worker whose id sorts first.
        """
        ...
