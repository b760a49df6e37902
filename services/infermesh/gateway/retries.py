"""Which calls may be sent again, and how many. Used by the dispatcher."""

from collections.abc import Iterator
from contextlib import contextmanager
from math import inf

from infermesh.errors import MeshError, NotReady, Overloaded, WorkerLost
from infermesh.gateway.admission import Limits
from infermesh.gateway.pending import Pending


class RetryBudget:
    """A token bucket that calls fill and retries empty.

    Retries are what turns a small failure into a large one: a share of the calls bounds the extra load, and the floor
    lets a quiet gateway retry too. What was not used is kept, up to the reserve. What one worker's death hands back is
    one event, however much that is: if anything is left, all of it is covered, and the budget owes the rest. Until
    that is earned again there are no further retries, so that a series of deaths can't outrun it.
    """

    def __init__(self, share: float, floor: float, reserve: int, now: float) -> None:
        self._share = share
        self._floor = floor
        self._reserve = float(reserve)
        self._tokens = float(reserve)
        self._least = 1.0
        self._then = now

    def earn(self) -> None:
        """Counts one new call."""
        if self._tokens < self._reserve:
            self._tokens += self._share

    def spend(self, now: float) -> bool:
        """Tells whether one more retry is allowed at `now` (seconds), and counts it if so."""
        self._refill(now)
        if self._tokens < self._least:
            return False
        self._tokens -= 1
        return True

    @contextmanager
    def one_event(self, now: float) -> Iterator[None]:
        """What is spent within counts as one: it is allowed as a whole, or not at all."""
        self._refill(now)
        self._least = -inf if self._tokens >= 1 else inf
        try:
            yield
        finally:
            self._least = 1.0

    def _refill(self, now: float) -> None:
        self._tokens = min(self._reserve, self._tokens + (now - self._then) * self._floor)
        self._then = now


class Retries:
    """Decides for each call that came back from a worker without an answer."""

    def __init__(self, limits: Limits, now: float) -> None:
        self._max_attempts = limits.max_attempts
        self._budget = RetryBudget(limits.retry_budget, limits.retry_floor, limits.retry_reserve, now)
        self.earn = self._budget.earn
        self.one_event = self._budget.one_event

    def allowed(self, pending: Pending, error: MeshError, not_started: bool, now: float) -> bool:
        """Tells whether the call may be sent again at `now`, and takes that from the budget.

        Inference changes nothing, so a call may be repeated when its worker was lost. Other errors are the answer,
        unless the worker has not begun the call and another may well be able to.
        """
        safe = isinstance(error, WorkerLost) or (not_started and isinstance(error, NotReady | Overloaded))
        return safe and pending.repeatable() and pending.attempts < self._max_attempts and self._budget.spend(now)
