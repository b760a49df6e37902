"""When a failed call may be sent again, and after how long: a pure function. Used by `connection`."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from infermesh.errors import MeshError, NotReady, Overloaded, WorkerLost


@dataclass(frozen=True)
class Retry:
    """How often and how patiently calls are repeated; `Retry(attempts=1)` never repeats one."""

    attempts: int = 6
    """Most times that a call is sent. Six take 1.5 to 3 s: longer than a channel needs to find a restarted gateway."""
    first: float = 0.1
    """Seconds before the second attempt; doubled each time, with jitter."""
    most: float = 5.0
    """Longest pause in seconds. A server that asks for a longer one gets the error raised at once."""

    def pause(
        self,
        error: MeshError,
        *,
        attempt: int,
        safe: bool,
        left: float,
        jitter: Callable[[], float] = random.random,
    ) -> float | None:
        """Returns the seconds to wait before attempt `attempt + 1`, or None if the error stands.

        `safe` says that the call may run twice without harm; other calls are repeated only where the server said that
        it had not begun. `left` is the time until the deadline in seconds.
        """
        if attempt >= self.attempts or not may_repeat(error, safe=safe):
            return None
        backoff = min(self.most, self.first * 2 ** (attempt - 1)) * (0.5 + jitter() / 2)
        pause = max(backoff, error.retry_after or 0.0)
        return pause if pause <= self.most and pause < left else None


def may_repeat(error: MeshError, *, safe: bool) -> bool:
    """Tells whether a call that failed so may be sent again."""
    if not isinstance(error, NotReady | Overloaded):
        return False
    # a server that says when to come back has refused the call, not begun it
    refused = error.retry_after is not None and not isinstance(error, WorkerLost)
    return refused or (safe and isinstance(error, NotReady))
