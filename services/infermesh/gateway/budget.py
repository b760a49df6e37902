"""The retry budget: how much of the load may be calls that are sent again. Used by the dispatcher."""


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
