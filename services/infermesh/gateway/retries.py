"""Which calls may be sent again, and how many. Used by the dispatcher."""

from infermesh.errors import MeshError, NotReady, Overloaded, WorkerLost
from infermesh.gateway.admission import Limits
from infermesh.gateway.pending import Pending


class RetryBudget:
    """A token bucket that calls fill and retries empty.

    Retries are what turns a small failure into a large one: a share of the calls bounds the extra load, the floor
    lets a quiet gateway retry too, and the burst covers what one worker's death hands back at once.
    """

    def __init__(self, share: float, floor: float, burst: int, now: float) -> None:
        self._share = share
        self._floor = floor
        self._burst = float(burst)
        self._tokens = float(burst)
        self._then = now

    def earn(self) -> None:
        """Counts one new call."""
        if self._tokens < self._burst:
            self._tokens += self._share

    def spend(self, now: float) -> bool:
        """Tells whether one more retry is allowed at `now` (seconds), and counts it if so."""
        self._tokens = min(self._burst, self._tokens + (now - self._then) * self._floor)
        self._then = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Retries:
    """Decides for each call that came back from a worker without an answer."""

    def __init__(self, limits: Limits, now: float) -> None:
        self._max_attempts = limits.max_attempts
        self._budget = RetryBudget(limits.retry_share, limits.retry_floor, limits.retry_burst, now)
        self.earn = self._budget.earn

    def allowed(self, pending: Pending, error: MeshError, not_started: bool, now: float) -> bool:
        """Tells whether the call may be sent again at `now`, and takes that from the budget.

        Inference changes nothing, so a call may be repeated when its worker was lost. Other errors are the answer,
        unless the worker has not begun the call and another may well be able to.
        """
        safe = isinstance(error, WorkerLost) or (not_started and isinstance(error, NotReady | Overloaded))
        return safe and pending.repeatable() and pending.attempts < self._max_attempts and self._budget.spend(now)
