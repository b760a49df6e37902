"""The seam of balancing: what a policy sees of a worker, and what it is."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol, TypeVar


@dataclass(slots=True, eq=False)
class Candidate:
    """One worker, as seen by the calls of one version of one deployment. Policies read it and change nothing.

    `in_flight` counts the calls that this gateway has under way there, `elsewhere` those of other gateways when the
    worker last told; `credit` is how many this gateway may have. `turn` is the number of the choice that last fell on
    it: the smaller, the longer ago; 0 means never.
    """

    worker: str
    weight: float = 1.0
    credit: int = 0
    in_flight: int = 0
    elsewhere: int = 0
    queued_rows: int = 0
    service_time_us: int = 0
    turn: int = 0


C = TypeVar("C", bound=Candidate)


class BalancingPolicy(Protocol):
    """Chooses a candidate."""

    def __call__(self, candidates: Sequence[C], rng: Random, /) -> C:
        """Returns one of `candidates`, which has at least two, all of them with credit.

        A pure function: it changes nothing, keeps nothing, doesn't block, takes all its chance from `rng` and never
        raises. Every candidate with a weight above 0 must get a call sooner or later, as long as it is as good as
        the others.
        """
        ...
