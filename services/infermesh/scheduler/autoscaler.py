"""How many workers a pool should have: `Autoscaler.desired(signals, replicas, now)`. Pure; every method takes the time,
in seconds.

The rules:

1. Each signal asks for as many workers as bring it to its target, and the highest number counts. A signal within a
   tenth of its target asks for no change.
2. Up at once, to twice the workers that are alive at most (to four from nothing): what new ones bring is seen first.
3. Down only to what would have sufficed at every moment of the last `scale_down_delay` seconds; a scheduler that has
   just taken over, or heard no gateway meanwhile, has not seen those yet. Whatever the targets are, workers that go
   must leave the others room for what is under way.
4. To nothing only if the pool may (`min` is 0) and had no call for `zero_delay` seconds, all of them seen.
5. While no gateway tells anything, the number stays as it is.
"""

from collections import deque
from dataclasses import dataclass
from math import ceil
from typing import Final

from infermesh.scheduler.membership import PoolDemand
from infermesh.scheduler.pools import PoolConfig

_TOLERANCE: Final = 0.1
_MOST_FROM_NOTHING: Final = 4
_UTILIZATION: Final = 0.7  # of the workers that stay when others go, where the pool has no target
_LONG: Final = 10.0  # seconds over which the utilization is averaged
_SHORT: Final = 3.0  # seconds for which calls must have waited before new workers are worth their start


@dataclass(frozen=True, slots=True)
class Signals:
    """What an autoscaler looks at: the demand of a pool, without its noise.

    `utilization` is the number of workers that the calls under way would fill; `active` tells whether the pool must not
    be without workers.
    """

    known: bool = False
    workers: int = 0
    rows: float = 0.0
    utilization: float = 0.0
    wait: float = 0.0
    active: bool = False


class Smoothing:
    """Turns the demand of one pool, seen about once a second, into its signals.

    What waits counts from the shortest queue of some seconds, unless there is no worker at all; the utilization is an
    average.
    """

    def __init__(self, pool: PoolConfig, now: float) -> None:
        self._pool = pool
        self._began = now
        self._seen: deque[tuple[float, PoolDemand]] = deque()

    def take(self, demand: PoolDemand, now: float) -> Signals:
        """Returns the signals as of `now`."""
        seen = self._seen
        seen.append((now, demand))
        if not demand.known:
            self._began = now
        while now - seen[0][0] >= _LONG:
            seen.popleft()
        recent = [past for when, past in seen if now - when < _SHORT] if demand.workers else [demand]
        told = [past for _, past in seen if past.known]
        return Signals(
            known=demand.known,
            workers=demand.workers,
            rows=min(past.rows for past in recent),
            utilization=sum(past.busy for past in told) / len(told) if told else 0.0,
            wait=min(past.wait for past in recent),
            active=self._active(demand, now),
        )

    def _active(self, demand: PoolDemand, now: float) -> bool:
        if demand.rows or demand.in_flight:
            return True
        # what was before this scheduler took over is not known: that counts as a call, if there is a worker to lose
        last = max(demand.used, self._began) if demand.workers else demand.used
        return now - last < self._pool.zero_delay


class Autoscaler:
    """Decides for one pool."""

    def __init__(self, pool: PoolConfig, now: float) -> None:
        self._pool = pool
        self._began = now
        self._needs: deque[tuple[float, int]] = deque()

    def desired(self, signals: Signals, replicas: int, now: float) -> int:
        """Returns how many workers there should be, from `min` to `max`; `replicas` is how many are asked for now."""
        pool = self._pool
        if not signals.known:
            self._began = now
            return self._bounded(replicas)
        self._remember(signals, replicas, now)
        wanted = self._up(signals, replicas)
        if wanted <= replicas:
            wanted = min(replicas, self._down(replicas, now))
        if pool.min == 0 and not signals.active and (not replicas or now - self._began >= pool.zero_delay):
            return 0
        return self._bounded(max(wanted, 1))

    def _bounded(self, replicas: int) -> int:
        return min(self._pool.max, max(self._pool.min, replicas))

    def _up(self, signals: Signals, replicas: int) -> int:
        if self._need(signals, 1 + _TOLERANCE) <= replicas:
            return replicas
        most = max(_MOST_FROM_NOTHING, 2 * signals.workers)
        return max(replicas, min(most, self._need(signals, 1.0)))

    def _down(self, replicas: int, now: float) -> int:
        if now - self._began < self._pool.scale_down_delay:
            return replicas
        return max(need for _, need in self._needs)

    def _remember(self, signals: Signals, replicas: int, now: float) -> None:
        needs = self._needs
        needs.append((now, self._enough(signals, replicas)))
        while now - needs[0][0] > self._pool.scale_down_delay:
            needs.popleft()

    def _need(self, signals: Signals, slack: float) -> int:
        """Returns how many workers bring every signal to `slack` times its target or below."""
        target, needs = self._pool.target, [0]
        if target.queue_rows:
            needs.append(_ceil(signals.rows / (target.queue_rows * slack)))
        if target.utilization:
            needs.append(_ceil(signals.utilization / (target.utilization * slack)))
        if target.wait and signals.wait > target.wait * slack:
            needs.append(_ceil(max(1, signals.workers) * signals.wait / (target.wait * slack)))
        return max(needs)

    def _enough(self, signals: Signals, replicas: int) -> int:
        """Returns to how few workers the pool may go."""
        target = self._pool.target
        room = _ceil(signals.utilization / ((target.utilization or _UTILIZATION) * (1 - _TOLERANCE)))
        waits = target.wait and signals.wait > target.wait / 2
        return max(room, self._need(signals, 1 - _TOLERANCE), replicas if waits else 0)


def _ceil(number: float) -> int:
    return ceil(number - 1e-9)
