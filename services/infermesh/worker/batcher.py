"""Plans batches: which of the waiting calls go to the runner together, which are too late. Pure; no clock, no runner.

Calls wait in the order of priority, then deadline, then arrival. A batch is the beginning of that order within one
group (calls whose tensors fit together), as long as its earliest deadline is still met.
"""

from bisect import bisect_left, insort
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from math import inf
from operator import attrgetter
from typing import Generic, Protocol, TypeVar

from infermesh.worker.service_time import ServiceTime

_MARGIN = 0.002  # seconds

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
    """Plans the next batch of a queue that is in order.

    `limit` is the most rows of a batch (0: every call runs alone); one call with more rows than that runs alone. A
    call is late when its deadline has passed or can't be met even by the fastest run seen lately. With `max_delay`, a
    batch that is not full is held back until its oldest call has waited so long, or must go to meet its deadline.
    """
    late: list[T] = []
    batch: list[T] = []
    rows, room, tightest, full = 0, limit, inf, False
    for item in queue:
        if item.deadline < inf and item.deadline - now <= max(0.0, time.fastest(item.rows)):
            late.append(item)
            continue
        if not batch:
            group = item.group
        elif item.group != group:
            continue
        elif rows + item.rows > room:
            full = True
            break
        if item.deadline < tightest:
            tightest = item.deadline
            room = _room(tightest - now, item.rows, time, limit)
            if batch and rows + item.rows > room:
                full = True
                break
        batch.append(item)
        rows += item.rows
    if batch and max_delay > 0 and not full and rows < limit:
        # waiting must not use up the time that the way and a slow run need
        last_moment = tightest - 2 * time.seconds(rows) - _MARGIN
        due = min(min(item.arrived for item in batch) + max_delay, last_moment)
        if now < due:
            return Plan([], late, due)
    return Plan(batch, late)


def _room(left: float, rows: int, time: ServiceTime, limit: int) -> int:
    """Returns the most rows of a batch that holds a call of `rows` with `left` seconds.

    A call that can hardly be met even alone does not shrink the batch: that would cost the others and not help it.
    """
    if left == inf:
        return limit
    possible = time.rows_within(left)
    return limit if possible < rows else min(limit, possible)


class Queue(Generic[T]):
    """The waiting calls in their order. Not thread-safe; every method is O(log n) or a scan of a short list."""

    def __init__(self) -> None:
        self._items: list[T] = []
        self.rows = 0

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[T]:
        return iter(self._items)

    @property
    def items(self) -> Sequence[T]:
        """The calls in order; not to be changed."""
        return self._items

    def add(self, item: T) -> None:
        """Puts a call in its place."""
        if not self._items or self._items[-1].order < item.order:
            self._items.append(item)
        else:
            insort(self._items, item, key=_ORDER)
        self.rows += item.rows

    def remove(self, item: T) -> bool:
        """Takes a call out; False if it is not waiting."""
        at = bisect_left(self._items, item.order, key=_ORDER)
        if at == len(self._items) or self._items[at] is not item:
            return False
        del self._items[at]
        self.rows -= item.rows
        return True

    def take(self, items: Sequence[T]) -> None:
        """Takes planned calls out, in the order in which the plan named them."""
        count = len(items)
        if self._items[:count] == items:
            del self._items[:count]
            self.rows -= sum(item.rows for item in items)
        else:
            for item in items:
                self.remove(item)

    def expired(self, now: float) -> list[T]:
        """Takes out and returns the calls whose deadline has passed."""
        gone = [item for item in self._items if item.deadline <= now]
        self.take(gone)
        return gone

    def first_deadline(self) -> float:
        """Returns the earliest deadline that waits, or `inf`."""
        return min((item.deadline for item in self._items), default=inf)

    def clear(self) -> list[T]:
        """Takes out and returns everything."""
        items, self._items, self.rows = self._items, [], 0
        return items
