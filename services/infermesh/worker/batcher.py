"""Plans batches: which of the waiting calls go to the runner together, which are too late. Pure; no clock, no runner.

Calls wait in the order of priority, then deadline, then arrival. A batch is the beginning of that order within one
group (calls whose tensors fit together), as long as its earliest deadline is still met. Where there is more work than
time, calls whose deadlines would keep batches small are given up for the others.
"""

from bisect import bisect_left, insort
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from math import inf
from operator import attrgetter
from typing import Generic, Protocol, TypeVar

from infermesh.worker.service_time import ServiceTime

MARGIN = 0.0002  # seconds between the end of a run and the moment at which the caller has its answer

Order = tuple[int, float, int]


class Waiting(Protocol):
    """What the planner sees of a call. Times are seconds of one monotonic clock; no deadline is `inf`."""

    rows: int
    arrived: float
    deadline: float
    group: Hashable
    order: Order


T = TypeVar("T", bound=Waiting)
_ORDER = attrgetter("order")
_DEADLINE = attrgetter("deadline")


def order_of(priority: int, deadline: float, number: int) -> Order:
    """Returns the place of a call in the queue: higher priority first, then earlier deadline, then lower number."""
    return (-priority, deadline, number)


@dataclass(slots=True)
class Plan(Generic[T]):
    """What to do now: run `batch` (empty: nothing), refuse `late`, and look again at `wake` if nothing else happens."""

    batch: list[T]
    late: list[T]
    wake: float = inf


class Planner(Protocol):
    """Plans batches. A pure function; `plan` is the one."""

    def __call__(self, now: float, queue: Sequence[T], time: ServiceTime, limit: int, max_delay: float, /) -> Plan[T]:
        """Returns what to do now with a queue that is in order."""
        ...


def plan(now: float, queue: Sequence[T], time: ServiceTime, limit: int, max_delay: float = 0.0) -> Plan[T]:
    """Plans the batch that begins at `now`, of a queue that is in order.

    `limit` is the most rows of a batch (0: every call runs alone); one call with more rows than that runs alone. A
    call is late when its deadline could hardly be met even if it ran alone. A call that could be met, but only in a
    batch so small that others would become late, is given up for them, and late as well. With `max_delay`, a batch
    that is not full is held back until its oldest call has waited so long, or must go to meet its deadline.
    """
    if len(queue) == 1 and max_delay <= 0:
        item = queue[0]
        if item.deadline < inf and item.deadline < now + MARGIN + time.needed(item.rows):
            return Plan([], [item])
        return Plan([item], [])
    late: list[T] = []
    ready: list[T] = []
    rows, group, measured, needed = 0, None, 0, inf
    for item in queue:
        if item.deadline < inf:
            if item.rows != measured:
                measured, needed = item.rows, now + MARGIN + time.needed(item.rows)
            if item.deadline < needed:
                late.append(item)
                continue
        if not ready:
            group = item.group
        elif item.group != group:
            continue
        ready.append(item)
        rows += item.rows
        if rows > 2 * limit:
            break  # enough to choose from
    batch, room = _cut(now, ready, time, limit)
    if len(batch) == len(ready):
        if batch and max_delay > 0 and rows < limit and now < (due := _due(batch, rows, time, max_delay)):
            return Plan([], late, due)
    elif room < limit and _suffer(now, batch, ready[len(batch) :], time, limit):
        given_up = _hindrances(now, ready, time, limit)
        late += given_up
        batch, _ = _cut(now, [item for item in ready if item not in given_up], time, limit)
    return Plan(batch, late)


def _rows(items: Iterable[T]) -> int:
    return sum(item.rows for item in items)


def _due(batch: Sequence[T], rows: int, time: ServiceTime, max_delay: float) -> float:
    """Returns until when a batch that is not full may wait for more."""
    # waiting must not use up the time that the way and a slow run need
    last_moment = min(item.deadline for item in batch) - 2 * time.seconds(rows) - 2 * MARGIN
    return min(min(item.arrived for item in batch) + max_delay, last_moment)


def _cut(now: float, ready: Sequence[T], time: ServiceTime, limit: int) -> tuple[list[T], int]:
    """Returns the longest beginning of `ready` in which no call is late, and the most rows that it may have."""
    batch: list[T] = []
    rows, room, tightest = 0, limit, inf
    for item in ready:
        if item.deadline < tightest:
            tightest = item.deadline
            # a call that is not late has room for itself, even where that is not quite safe
            room = max(item.rows, min(limit, time.rows_within(tightest - now - MARGIN)))
        if batch and rows + item.rows > room:
            break
        batch.append(item)
        rows += item.rows
    return batch, room


def _suffer(now: float, batch: Sequence[T], rest: Sequence[T], time: ServiceTime, limit: int) -> bool:
    """Tells whether some of the others would be late if they had to wait for the end of a batch."""
    end = now + time.seconds(_rows(batch)) + time.safe(min(limit, _rows(rest))) + MARGIN
    return any(item.deadline < end for item in rest)


def _hindrances(now: float, ready: Sequence[T], time: ServiceTime, limit: int) -> list[T]:
    """Returns the calls that are best given up where not all can be met: so many, tightest first, that what remains
    makes the most of the batch's time."""
    by_deadline = sorted(ready, key=_DEADLINE)
    pace, left = time.rate(), _rows(ready)
    best, count = -inf, 0
    for skipped, item in enumerate(by_deadline):
        room = max(item.rows, min(limit, time.rows_within(item.deadline - now - MARGIN)))
        rows = min(room, left)
        # how many rows more than other batches could serve in its time, at the most
        value = rows - time.seconds(rows) * pace
        if value > best:
            best, count = value, skipped
        if room >= min(limit, left):
            break  # nothing is tight any more
        left -= item.rows
    return by_deadline[:count]


class Queue(Generic[T]):
    """The waiting calls in their order. Not thread-safe; every method is O(log n) or a scan of a short list."""

    def __init__(self) -> None:
        self.items: list[T] = []
        """The calls in order, always the same list; not to be changed."""
        self.rows = 0

    def add(self, item: T) -> None:
        """Puts a call in its place."""
        items = self.items
        if not items or items[-1].order < item.order:
            items.append(item)
        else:
            insort(items, item, key=_ORDER)
        self.rows += item.rows

    def remove(self, item: T) -> bool:
        """Takes a call out; False if it is not waiting."""
        items = self.items
        at = bisect_left(items, item.order, key=_ORDER)
        if at == len(items) or items[at] is not item:
            return False
        del items[at]
        self.rows -= item.rows
        return True

    def take(self, items: Sequence[T]) -> None:
        """Takes planned calls out, in the order in which the plan named them."""
        count, waiting = len(items), self.items
        if waiting[:count] == items:
            del waiting[:count]
            for item in items:
                self.rows -= item.rows
        else:
            for item in items:
                self.remove(item)

    def expired(self, now: float) -> list[T]:
        """Takes out and returns the calls whose deadline has passed."""
        gone = [item for item in self.items if item.deadline <= now]
        self.take(gone)
        return gone

    def first_deadline(self) -> float:
        """Returns the earliest deadline that waits, or `inf`."""
        return min((item.deadline for item in self.items), default=inf)

    def clear(self) -> list[T]:
        """Takes out and returns everything."""
        gone, self.rows = self.items[:], 0
        self.items.clear()
        return gone
