"""One of several that want to lead, as a state machine over what it sees of the Lease. Pure; every method takes the
time, in seconds of a clock that only this process knows.

Why two never lead at once: the leader counts from before it asked for a renewal, and stops `deadline` later; the others
count from when they saw that renewal, and wait for the whole `duration`. So clocks need not agree on the time, only
about on the length of a second: within (duration - deadline - what stopping takes) / duration. And a Lease is written
only over what was seen, so that of two who take it at the same time one loses, and what arrives late is refused.
"""

import math
from dataclasses import replace

from infermesh.scheduler.leadership.base import Lease


class Candidate:
    """Knows what it may write, and until when it leads.

    `identity` differs from process to process; `duration` is promised to the others, `deadline` is when it stops by
    itself; both in seconds without renewal.
    """

    def __init__(self, identity: str, duration: int, deadline: float) -> None:
        self.identity = identity
        self._duration = duration
        self._deadline = deadline
        self._lease: Lease | None = None
        self._looked = False
        self._seen_at = -math.inf  # when the Lease was first seen as it is
        self._until = -math.inf

    @property
    def until(self) -> float:
        """When it stops leading unless the Lease is renewed."""
        return self._until

    @property
    def holder(self) -> str:
        """Who holds the Lease, as far as it knows; empty if nobody does."""
        return self._lease.holder if self._lease else ""

    def leads(self, now: float) -> bool:
        """Tells whether it leads."""
        return now < self._until

    def observe(self, lease: Lease | None, now: float) -> None:
        """Takes in the Lease as it was read; `now` is after the answer. Whoever finds another's name in it has lost."""
        if not self._looked and lease is None:
            self._seen_at = -math.inf  # there never was one
        elif not self._looked or _version(lease) != _version(self._lease):
            self._seen_at = now
        self._lease, self._looked = lease, True
        if lease is not None and lease.holder != self.identity:
            self._until = -math.inf

    def free_at(self) -> float:
        """Returns when it may take the Lease, if that does not change meanwhile; the past if it may now."""
        if self._lease is None:
            return self._seen_at + self._duration  # it was deleted: somebody may lead still by what it said
        if self._lease.holder in ("", self.identity):
            return -math.inf
        return self._seen_at + (self._lease.duration or self._duration)

    def proposal(self, now: float) -> Lease | None:
        """Returns the Lease to write, to lead or to go on leading; None while another may lead by it."""
        if now < self.free_at() and not self.leads(now):
            return None
        lease = self._lease or Lease()
        if lease.holder == self.identity:
            return replace(lease, duration=self._duration)
        transitions = lease.transitions + 1 if lease.version else 0
        return replace(lease, holder=self.identity, duration=self._duration, transitions=transitions, acquired=None)

    def claim(self) -> str:
        """Says by what right it may take the Lease, where it has a proposal."""
        if self._lease is None:
            return "there was no lease"
        if self._lease.holder in ("", self.identity):
            return "the lease was free" if not self._lease.holder else "the lease was still its own"
        return f"{self._lease.holder} did not renew the lease"

    def won(self, lease: Lease, asked: float) -> None:
        """Takes in that its proposal was written; `asked` is before the request."""
        self._lease, self._looked = lease, True
        self._seen_at = asked
        self._until = asked + self._deadline

    def resign(self) -> Lease | None:
        """Leads no more; returns the Lease to write so that others know, None if it does not hold it."""
        self._until = -math.inf
        if self._lease is None or self._lease.holder != self.identity:
            return None
        return replace(self._lease, holder="", duration=1)


def _version(lease: Lease | None) -> str:
    return lease.version if lease else ""
