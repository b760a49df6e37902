"""The queue of one target: calls that wait because no worker has credit for them. Used by the dispatcher."""

import heapq
from collections.abc import Iterator
from itertools import count

from infermesh.gateway.pending import Pending

_NEVER = float("inf")
_SAMPLE = 64


class Tally:
    """Sum of the bytes that wait in several queues."""

    __slots__ = ("bytes",)

    def __init__(self) -> None:
        self.bytes = 0


class CallQueue:
    """Calls by priority (highest first), then deadline (earliest first), then arrival.

    `tally` is told the size of what waits. Taking a call from the middle costs nothing: its entry is left behind and
    skipped, and the heap is built anew when most of it is such.
    """

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._heap: list[tuple[int, float, int, int, Pending]] = []
        self._tickets = count(1)
        self.length = 0
        """How many wait."""
        self.latest = 0.0
        """Latest deadline of those that wait, or have waited since the queue was empty."""

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Pending]:
        """Yields the calls, in no order."""
        return (entry[4] for entry in self._heap if entry[4].ticket == entry[3])

    def first(self) -> Pending | None:
        """Returns the first call, and leaves it where it is; None if none waits."""
        heap = self._heap
        while heap:
            *_, ticket, pending = heap[0]
            if pending.ticket == ticket:
                return pending
            heapq.heappop(heap)
        return None

    def push(self, pending: Pending) -> None:
        """Adds a call, which must not be in any queue."""
        call = pending.call
        pending.ticket = next(self._tickets)
        deadline = _NEVER if call.deadline is None else call.deadline
        heapq.heappush(self._heap, (-call.priority, deadline, pending.arrival, pending.ticket, pending))
        if deadline > self.latest or not self.length:
            self.latest = deadline
        self.length += 1
        self._tally.bytes += len(call.payload)

    def pop(self) -> Pending:
        """Takes the first call. There must be one."""
        while True:
            *_, ticket, pending = heapq.heappop(self._heap)
            if pending.ticket == ticket:
                self._left(pending)
                return pending

    def ahead(self, pending: Pending) -> int:
        """Returns about how many calls would leave before this one if it were here."""
        call = pending.call
        place = (-call.priority, _NEVER if call.deadline is None else call.deadline, pending.arrival)
        # the heap is no order, but entries taken at even distances are a fair sample of it
        sample = self._heap[:: len(self._heap) // _SAMPLE + 1]
        return round(self.length * sum(entry < place for entry in sample) / max(1, len(sample)))

    def remove(self, pending: Pending) -> None:
        """Takes a call out, which must be in this queue."""
        self._left(pending)
        if len(self._heap) > 2 * self.length + 64:
            self._heap = [entry for entry in self._heap if entry[4].ticket == entry[3]]
            heapq.heapify(self._heap)

    def _left(self, pending: Pending) -> None:
        pending.ticket = 0
        self.length -= 1
        self._tally.bytes -= len(pending.call.payload)
