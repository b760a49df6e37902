"""What the dispatcher knows of each target at this moment: its workers, its credit and the calls that wait for it."""

import asyncio
from dataclasses import dataclass, field
from math import inf
from random import Random
from typing import TYPE_CHECKING

import structlog

from infermesh.errors import MeshError
from infermesh.gateway import admission, foresight
from infermesh.gateway.balancing import BalancingPolicy, Candidate
from infermesh.gateway.balancing.least_load import choose as least_load
from infermesh.gateway.balancing.least_load import expected_wait
from infermesh.gateway.balancing.round_robin import choose as round_robin
from infermesh.gateway.forecast import Forecast
from infermesh.gateway.pending import Pending
from infermesh.gateway.queueing import CallQueue, Tally
from infermesh.gateway.routes import TargetRoute
from infermesh.gateway.stats import TargetStats
from infermesh.v1.worker_service_pb2 import TargetLoad

if TYPE_CHECKING:
    from infermesh.gateway.hedging import Hedges
    from infermesh.gateway.ledger import Ledger
    from infermesh.gateway.quarantine import Quarantine

log = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False, kw_only=True)
class Lane(Candidate):
    """One target on one worker: the way from a queue to a stream.

    It is `live` while the worker takes calls for it (it may be out of credit). `credit` is 0 unless it is live, so
    that nothing else need be looked at before sending. `home` is set while routes lead here.
    """

    ledger: "Ledger"
    target: str
    live: bool = False
    # what the worker foresaw when it last told: when (loop time) its runner is free, and how long runs then take
    free_at: float = 0.0
    batch_seconds: float = 0.0
    single_seconds: float = 0.0
    running: int = 0
    home: "TargetState | None" = None
    # True from when unary calls were written until an answer comes, and what is held back meanwhile
    holding: bool = False
    held: list[Pending] = field(default_factory=list)

    def update(self, load: TargetLoad) -> bool:
        """Takes what the worker tells. Returns whether `live` has changed."""
        before, self.live = self.live, not load.gone
        self.credit = load.credit if self.live else 0
        self.queued_rows = load.queued_rows
        self.service_time_us = load.service_time_us
        self.elsewhere = max(0, load.in_flight - self.in_flight)
        self.free_at = asyncio.get_running_loop().time() + load.free_us / 1e6 if load.free_us else 0.0
        self.batch_seconds, self.single_seconds = load.batch_us / 1e6, load.single_us / 1e6
        self.running = max(0, load.in_flight - load.queued_rows)
        return before != self.live

    def close(self) -> bool:
        """No call may be sent here for now. Returns whether `live` has changed."""
        before, self.live, self.credit = self.live, False, 0
        return before


class TargetState:
    """One target: its lanes, its queue and how a lane is chosen."""

    def __init__(self, route: TargetRoute, stats: TargetStats, tally: Tally, rng: Random) -> None:
        self.route = route
        self.stats = stats
        self.queue = CallQueue(tally)
        self.choose: BalancingPolicy = round_robin
        self.lanes: tuple[Lane, ...] = ()
        # True while calls may wait for a lane to come back; False once they waited in vain
        self.hopeful = True
        self.routed = True
        # True if a call rather waits than goes where it would be done later
        self._patient = False
        self.hold_timer: asyncio.TimerHandle | None = None
        self.forecast = Forecast(stats)
        # True if calls are hedged or share answers; what most deployments don't want must cost them nothing
        self.special = False
        self.hedges: Hedges | None = None
        # what is held against requests, once a runner has died on some
        self.quarantine: Quarantine | None = None
        self._rng = rng
        self._turn = 0

    def pick(self, tried: tuple[str, ...] = ()) -> Lane | None:
        """Returns a lane with credit, or None.

        Workers in `tried` have had the call before: they are taken only if no other worker could take it, now or
        later.
        """
        lanes = self.lanes
        if len(lanes) == 1:  # wherever a call has been, there is no other
            return lanes[0] if lanes[0].in_flight < lanes[0].credit else None
        ready = [lane for lane in lanes if lane.in_flight < lane.credit]
        if tried:
            ready = self._untried(ready, tried)
        if not ready:
            return None
        lane = ready[0] if len(ready) == 1 else self._choose(ready)
        if self._patient and not tried and lane.in_flight and self._sooner(lane):
            return None
        self._turn += 1
        lane.turn = self._turn
        return lane

    def _sooner(self, lane: Lane) -> bool:
        """Tells whether a worker that is full will be done with one more call sooner than `lane`, which is busy, too.

        Waiting for that costs nothing: `lane` gets the call after all if it is free first.
        """
        wait = expected_wait(lane)
        return any(
            other.live and other.in_flight and other.in_flight >= other.credit and expected_wait(other) < wait
            for other in self.lanes
        )

    def _choose(self, ready: list[Lane]) -> Lane:
        try:
            return self.choose(ready, self._rng)
        except Exception:
            # somebody else's policy: its fault costs the choice, not the call
            log.exception("balancing policy failed", target=self.route.name, policy=self.route.policy)
            self.choose = round_robin
            return round_robin(ready, self._rng)

    def exhausted(self, tried: tuple[str, ...]) -> bool:
        """Tells whether every worker that takes calls has had this one before."""
        return self.live() and not any(lane.live and lane.worker not in tried for lane in self.lanes)

    def _untried(self, ready: list[Lane], tried: tuple[str, ...]) -> list[Lane]:
        fresh = [lane for lane in ready if lane.worker not in tried]
        return ready if not fresh and self.exhausted(tried) else fresh

    def has_credit(self) -> bool:
        """Tells whether some worker would take a call now."""
        return any(lane.in_flight < lane.credit for lane in self.lanes)

    def live(self) -> bool:
        """Tells whether some worker takes calls for it, now or as soon as it has credit again."""
        return any(lane.live for lane in self.lanes)

    def waiting(self) -> int:
        """Returns the calls that wait here."""
        return len(self.queue)

    def in_flight(self) -> int:
        """Returns the calls that workers have."""
        return sum(lane.in_flight for lane in self.lanes)

    def quarantined(self) -> int:
        """Returns how many requests are refused because runners died on them."""
        return 0 if self.quarantine is None else self.quarantine.quarantined

    def drain_time(self) -> float:
        """Returns about how many seconds the queue would take to empty; between 0.1 and 30."""
        times = [lane.service_time_us for lane in self.lanes if lane.live]
        if not times:
            return self.route.retry_after
        return min(30.0, max(0.1, len(self.queue) * sum(times) / len(times) ** 2 / 1e6))

    def refusal(self, pending: Pending, now: float) -> MeshError | None:
        """Returns why a call with a deadline would wait here in vain, or None."""
        if not foresight.told(self.lanes):
            return self.forecast.refusal(pending, self.queue, now) if self.queue else None
        call, waiting = pending.call, len(self.queue)
        deadline = call.deadline or inf
        hopeless = deadline < foresight.earliest(self.lanes, waiting, now)
        # what has more time than all that wait goes behind them
        if not hopeless and deadline >= self.queue.latest:
            hopeless = deadline < foresight.turn(self.lanes, waiting, now)
        return admission.hopeless(call, self.drain_time()) if hopeless else None

    def shed(self, now: float) -> list[Pending]:
        """Takes out of the queue what can't be answered in time any more, from its beginning on."""
        queue = self.queue
        if not queue:
            return []
        told = foresight.told(self.lanes)
        earliest = foresight.earliest(self.lanes, len(queue), now) if told else -inf
        gone: list[Pending] = []
        while (first := queue.first()) is not None:
            late = (first.call.deadline or inf) < earliest if told else self.forecast.too_late(first.call, 0.0, now)
            if not late:
                break
            queue.remove(first)
            gone.append(first)
        return gone

    def follow(self, route: TargetRoute, choose: BalancingPolicy, lanes: tuple[Lane, ...]) -> None:
        """Takes over what a new snapshot says."""
        for lane in self.lanes:
            lane.home = None
        for lane in lanes:
            lane.home = self
        self.route, self.choose, self.lanes, self.routed = route, choose, lanes, True
        self._patient = choose is least_load and len(lanes) > 1
        self.special = route.single_flight or route.hedge_budget > 0
        if self.hedges is not None and not self.hedges.fits(route):
            self.hedges = None

    def leave(self) -> None:
        """No route leads here any more; calls that workers have go on."""
        for lane in self.lanes:
            lane.home = None
        self.lanes, self.routed = (), False
        self.stop_hold()

    def stop_hold(self) -> None:
        """Waiting is no longer in vain, or no longer ours to end."""
        if self.hold_timer is not None:
            self.hold_timer.cancel()
            self.hold_timer = None

    def drain(self) -> list[Pending]:
        """Takes all calls out of the queue."""
        return [self.queue.pop() for _ in range(len(self.queue))]
