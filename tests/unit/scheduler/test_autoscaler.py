"""How many workers a pool should have: by example, and for every demand that hypothesis thinks of."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from math import ceil, inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infermesh.scheduler.autoscaler import Autoscaler, Signals, Smoothing
from infermesh.scheduler.membership import PoolDemand
from infermesh.scheduler.pools import PoolConfig, PoolTarget

POOL = PoolConfig(
    autoscaling="builtin",
    min=1,
    max=10,
    target=PoolTarget(queue_rows=10, utilization=0.5, wait=2.0),
    scale_down_delay=60,
    zero_delay=100,
    workload="w",
)
ZERO = replace(POOL, min=0)
IDLE = Signals(known=True, workers=1)


def busy(workers: int = 1, rows: float = 0.0, utilization: float = 0.0, wait: float = 0.0) -> Signals:
    return Signals(True, workers, rows, utilization, wait, active=True)


def once(signals: Signals, replicas: int, pool: PoolConfig = POOL) -> int:
    return Autoscaler(pool, 0.0).desired(signals, replicas, 0.0)


@pytest.mark.parametrize(
    ("signals", "replicas", "wanted"),
    [
        (busy(2, rows=40), 2, 4),
        (busy(2, rows=21), 2, 2),  # within a tenth
        (busy(2, rows=23), 2, 3),
        (busy(3, utilization=2.5), 3, 5),
        (busy(3, utilization=1.6), 3, 3),
        (busy(2, wait=4.0), 2, 4),
        (busy(2, wait=2.1), 2, 2),
        (busy(2, rows=25, utilization=1.8, wait=2.0), 2, 4),
        (busy(0, rows=1), 0, 1),
        (busy(0, rows=90), 0, 4),  # four from nothing
        (busy(5, rows=90), 5, 9),
        (busy(2, rows=90), 2, 4),  # twice what is alive
        (busy(1, rows=90), 8, 8),  # seven are on their way
        (busy(6, rows=900), 6, 10),
    ],
)
def test_up_at_once(signals: Signals, replicas: int, wanted: int) -> None:
    assert once(signals, replicas) == wanted


@pytest.mark.parametrize(("replicas", "wanted"), [(0, 1), (1, 1), (10, 10), (40, 10)])
def test_within_the_bounds_whatever_is_there(replicas: int, wanted: int) -> None:
    assert once(IDLE, replicas) == wanted
    assert once(Signals(), replicas) == wanted, "also while nothing is known"


def follow(pool: PoolConfig, signals: Callable[[float, int], Signals], replicas: int, seconds: int) -> list[int]:
    """Returns the number of workers second by second; they start and stop at once."""
    scaler, counts = Autoscaler(pool, 0.0), []
    for second in range(seconds):
        replicas = scaler.desired(replace(signals(second, replicas), workers=replicas), replicas, float(second))
        counts.append(replicas)
    return counts


def test_down_only_after_the_delay_and_to_what_always_sufficed() -> None:
    def signals(second: float, replicas: int) -> Signals:
        return busy(utilization=1.2 if second == 30 else 0.2)

    counts = follow(POOL, signals, 6, 120)
    assert counts[:60] == [6] * 60, "before that nobody knows what was needed"
    assert counts[60:91] == [3] * 31, "the moment at 30 s is remembered"
    assert counts[91:] == [1] * 29


def test_a_short_lull_costs_no_worker() -> None:
    counts = follow(POOL, lambda second, _: busy(utilization=0.0 if second % 50 < 40 else 2.2), 5, 600)
    assert set(counts) == {5}


def test_what_is_not_known_changes_nothing_and_is_no_lull() -> None:
    scaler = Autoscaler(POOL, 0.0)
    assert scaler.desired(busy(utilization=2.0), 5, 0.0) == 5
    assert scaler.desired(Signals(), 5, 100.0) == 5
    assert scaler.desired(busy(utilization=0.1), 5, 101.0) == 5
    assert scaler.desired(busy(utilization=0.1), 5, 159.0) == 5
    assert scaler.desired(busy(utilization=0.1), 5, 160.0) == 1


def test_the_last_worker_stops_when_the_pool_is_no_longer_active() -> None:
    def signals(second: float, _: int) -> Signals:
        return replace(IDLE, active=second < 100)

    counts = follow(ZERO, signals, 3, 120)
    assert counts[:60] == [3] * 60
    assert counts[60:100] == [1] * 40
    assert counts[100:] == [0] * 20
    assert follow(ZERO, lambda *_: replace(IDLE, active=False), 3, 120) == counts, "before that nobody knows"
    assert follow(POOL, signals, 3, 120)[-1] == 1, "not in a pool that must have one"


def test_a_pool_that_waits_for_nothing_stays_at_nothing() -> None:
    assert once(Signals(known=True), 0, ZERO) == 0
    assert once(busy(0, rows=1), 0, ZERO) == 1


def test_workers_leave_room_for_what_is_under_way_even_without_a_target() -> None:
    pool = replace(POOL, target=PoolTarget(queue_rows=10, utilization=0, wait=0))
    counts = follow(pool, lambda *_: busy(utilization=2.5), 10, 100)
    assert counts[-1] == ceil(2.5 / 0.63)


def test_who_waits_half_as_long_as_he_may_is_worth_the_workers_there_are() -> None:
    assert follow(POOL, lambda *_: busy(wait=1.5), 4, 100)[-1] == 4
    assert follow(POOL, lambda *_: busy(wait=0.9), 4, 100)[-1] == 1


pools = st.builds(
    lambda least, more, rows, share, wait, delay: PoolConfig(
        autoscaling="builtin",
        min=least,
        max=max(1, least + more),
        target=PoolTarget(queue_rows=rows, utilization=share, wait=wait),
        scale_down_delay=delay,
        workload="w",
    ),
    st.integers(0, 5),
    st.integers(0, 40),
    st.sampled_from([0, 0.5, 7, 100]),
    st.sampled_from([0.1, 0.7, 1.0]),
    st.sampled_from([0, 0.01, 3]),
    st.sampled_from([0, 1, 30]),
)
demands = st.builds(
    Signals,
    known=st.booleans(),
    workers=st.integers(0, 60),
    rows=st.floats(0, 1e9),
    utilization=st.floats(0, 60),
    wait=st.floats(0, 1e6),
    active=st.booleans(),
)


@given(pools, st.lists(st.tuples(demands, st.integers(0, 100), st.floats(0, 100)), max_size=30))
def test_never_outside_the_bounds(pool: PoolConfig, steps: list[tuple[Signals, int, float]]) -> None:
    scaler, now = Autoscaler(pool, 0.0), 0.0
    for signals, replicas, pause in steps:
        now += pause
        assert pool.min <= scaler.desired(signals, replicas, now) <= pool.max


@given(pools, demands, st.integers(0, 50))
def test_no_flapping_under_constant_demand(pool: PoolConfig, demand: Signals, replicas: int) -> None:
    """The number settles, and on its way it turns once at most: down to what suffices, after up to what is needed."""
    demand = replace(demand, known=True, active=True)
    counts = follow(pool, lambda *_: demand, replicas, 120)
    assert len(set(counts[60:])) == 1
    steps = [after - before for before, after in pairwise(counts) if after != before]
    turns = sum(one * other < 0 for one, other in pairwise(steps))
    assert turns == 0


@given(pools, st.floats(0, 8))
def test_no_flapping_when_workers_share_what_there_is_to_do(pool: PoolConfig, work: float) -> None:
    """`work` keeps so many workers busy; what is more than all of them waits."""

    def signals(_: float, replicas: int) -> Signals:
        over = max(0.0, work - replicas)
        return busy(utilization=min(work, replicas), rows=100 * over, wait=10 * over)

    counts = follow(pool, signals, max(1, pool.min), 240)
    if pool.scale_down_delay:
        assert len(set(counts[120:])) == 1
    assert min(pool.max, ceil(work)) <= counts[-1]


# --- signals ---------------------------------------------------------------------------------------------------------


def test_one_long_queue_is_no_reason_to_start_a_worker() -> None:
    smoothing = Smoothing(POOL, 0.0)
    for second in range(5):
        smoothing.take(PoolDemand(True, 1), float(second))
    assert smoothing.take(PoolDemand(True, 1, rows=50, wait=3.0), 5.0).rows == 0
    assert smoothing.take(PoolDemand(True, 1, rows=60, wait=3.0), 6.0).wait == 0
    smoothing.take(PoolDemand(True, 1, rows=40, wait=2.0), 7.0)
    signals = smoothing.take(PoolDemand(True, 1, rows=70, wait=4.0), 8.0)
    assert (signals.rows, signals.wait) == (40, 2.0)


def test_without_a_worker_whatever_waits_counts_at_once() -> None:
    smoothing = Smoothing(ZERO, 0.0)
    smoothing.take(PoolDemand(True, 0), 0.0)
    signals = smoothing.take(PoolDemand(True, 0, rows=1), 0.5)
    assert (signals.rows, signals.active) == (1, True)


def test_utilization_is_an_average() -> None:
    smoothing = Smoothing(POOL, 0.0)
    values = [smoothing.take(PoolDemand(True, 2, busy=float(second % 2)), float(second)) for second in range(30)]
    assert values[-1].utilization == pytest.approx(0.5)


def test_a_pool_stays_active_for_a_while_after_its_last_call() -> None:
    smoothing = Smoothing(ZERO, 0.0)
    assert smoothing.take(PoolDemand(True, 1, in_flight=1, used=200.0), 200.0).active
    assert smoothing.take(PoolDemand(True, 1, used=200.0), 299.0).active
    assert not smoothing.take(PoolDemand(True, 1, used=200.0), 300.0).active
    assert smoothing.take(PoolDemand(True, 1, in_flight=1, used=200.0), 400.0).active, "a long call"


def test_what_was_before_the_scheduler_took_over_counts_as_a_call() -> None:
    smoothing = Smoothing(ZERO, 50.0)
    assert smoothing.take(PoolDemand(True, 1), 149.0).active
    assert not smoothing.take(PoolDemand(True, 1), 150.0).active
    assert not Smoothing(ZERO, 50.0).take(PoolDemand(True, 0), 51.0).active, "nothing is lost, so nothing is kept"
    assert Smoothing(ZERO, 50.0).take(PoolDemand(True, 0, used=50.5), 51.0).active, "the first worker may be on its way"


def test_so_does_a_time_in_which_no_gateway_told_anything() -> None:
    smoothing = Smoothing(ZERO, 0.0)
    assert not smoothing.take(PoolDemand(True, 1, used=-inf), 200.0).active
    smoothing.take(PoolDemand(False, 1), 210.0)
    assert smoothing.take(PoolDemand(True, 1), 300.0).active
