"""The batch planner: invariants by property, decisions by example."""

from collections.abc import Hashable
from dataclasses import dataclass
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infermesh.worker.batcher import MARGIN, Order, Queue, order_of, plan
from infermesh.worker.service_time import ServiceTime


@dataclass(eq=False)
class Item:
    rows: int = 1
    deadline: float = inf
    group: Hashable = None
    arrived: float = 0.0
    order: Order = (0, inf, 0)


def queue_of(*items: Item, priorities: dict[int, int] | None = None) -> Queue[Item]:
    queue: Queue[Item] = Queue()
    for number, item in enumerate(items):
        item.order = order_of((priorities or {}).get(number, 0), item.deadline, number)
        queue.add(item)
    return queue


ITEMS = st.lists(
    st.builds(
        Item,
        rows=st.integers(1, 9),
        deadline=st.one_of(st.just(inf), st.floats(-1.0, 3.0)),
        group=st.sampled_from(["a", "b"]),
        arrived=st.floats(-2.0, 0.0),
    ),
    max_size=30,
)
CURVES = st.lists(st.tuples(st.integers(1, 16), st.floats(0.001, 1.0)), max_size=3).map(lambda m: ServiceTime(m, 16))
PRIORITIES = st.dictionaries(st.integers(0, 29), st.integers(-2, 2))


@given(ITEMS, CURVES, st.integers(0, 16), PRIORITIES, st.sampled_from([0.0, 1.0]))
def test_nothing_is_lost_doubled_or_mixed(
    items: list[Item], time: ServiceTime, limit: int, priorities: dict[int, int], delay: float
) -> None:
    queue = queue_of(*items, priorities=priorities)
    planned = plan(0.0, queue.items, time, limit, delay)
    taken = [*planned.batch, *planned.late]
    assert len({id(item) for item in taken}) == len(taken)
    assert all(any(item is known for known in items) for item in taken)
    assert len({item.group for item in planned.batch}) <= 1
    assert sum(item.rows for item in planned.batch) <= limit or len(planned.batch) == 1
    queue.take(planned.late)
    queue.take(planned.batch)
    assert len(queue.items) == len(items) - len(taken)
    assert queue.rows == sum(item.rows for item in queue.items)


@given(ITEMS, CURVES, st.integers(0, 16), PRIORITIES)
def test_a_batch_is_the_beginning_of_its_group(
    items: list[Item], time: ServiceTime, limit: int, priorities: dict[int, int]
) -> None:
    queue = queue_of(*items, priorities=priorities)
    planned = plan(0.0, queue.items, time, limit)
    timely = [item for item in queue.items if not any(item is late for late in planned.late)]
    if not timely:
        assert planned.batch == []
        return
    same = [item for item in timely if item.group == timely[0].group]
    assert planned.batch == same[: len(planned.batch)]
    assert planned.batch, "while something timely waits, and nothing is held back, something runs"


@given(ITEMS, CURVES, st.integers(0, 16))
def test_late_work_is_never_run_and_what_is_timely_is_given_up_only_where_time_is_scarce(
    items: list[Item], time: ServiceTime, limit: int
) -> None:
    planned = plan(0.0, queue_of(*items).items, time, limit)
    assert all(item.deadline > time.needed(item.rows) for item in planned.batch)
    hopeless = [item for item in items if item.deadline < time.needed(item.rows) + MARGIN]
    given_up = [item for item in planned.late if not any(item is other for other in hopeless)]
    if given_up:
        rows = sum(item.rows for item in [*given_up, *planned.batch])
        tightest = min(item.deadline for item in given_up)
        assert time.safe(min(limit, rows)) + MARGIN > tightest, "all of them in one batch would have been in time"


@given(ITEMS, CURVES, st.integers(1, 16))
def test_a_batch_is_in_time_for_all_that_could_be_in_time_alone(
    items: list[Item], time: ServiceTime, limit: int
) -> None:
    batch = plan(0.0, queue_of(*items).items, time, limit).batch
    rows = sum(item.rows for item in batch)
    for item in batch:
        alone_in_time = time.safe(item.rows) + MARGIN <= item.deadline
        if alone_in_time and item.rows <= limit and len(batch) > 1:
            assert time.safe(rows) <= item.deadline * (1 + 1e-9)


@given(ITEMS, CURVES, st.integers(0, 16), st.sampled_from([0.0, 0.5]))
def test_everything_ends_sooner_or_later(items: list[Item], time: ServiceTime, limit: int, delay: float) -> None:
    queue, now = queue_of(*items), 0.0
    for _ in range(200):
        if not len(queue.items):
            break
        planned = plan(now, queue.items, time, limit, delay)
        queue.take(planned.late)
        queue.take(planned.batch)
        if not planned.batch and not planned.late:
            assert now < planned.wake < inf
            now = planned.wake
    assert not len(queue.items)


def test_earliest_deadline_goes_first_and_limits_the_batch() -> None:
    time = ServiceTime([(1, 0.010), (10, 0.100)], limit=10)
    urgent, *others = [Item(deadline=0.035), *(Item() for _ in range(9))]
    batch = plan(0.0, queue_of(*others, urgent).items, time, 10).batch
    assert batch[0] is urgent
    assert len(batch) == 3


def test_a_call_that_can_not_be_met_does_not_shrink_the_batch_of_others() -> None:
    time = ServiceTime([(1, 0.010), (10, 0.011)], limit=10)
    hopeless = Item(deadline=0.005)
    planned = plan(0.0, queue_of(hopeless, *(Item() for _ in range(9))).items, time, 10)
    assert planned.late == [hopeless]
    assert len(planned.batch) == 9


def test_a_tight_call_goes_alone_while_the_others_can_wait() -> None:
    time = ServiceTime([(1, 0.010), (10, 0.020)], limit=10)
    tight = Item(deadline=0.015)
    planned = plan(0.0, queue_of(tight, *(Item(deadline=0.060) for _ in range(9))).items, time, 10)
    assert planned.batch[0] is tight
    assert (len(planned.batch) < 5, planned.late) == (True, [])


def test_a_tight_call_is_given_up_for_many_that_would_be_late_otherwise() -> None:
    time = ServiceTime([(1, 0.010), (10, 0.020)], limit=10)
    tight, others = Item(deadline=0.013), [Item(deadline=0.030) for _ in range(9)]
    planned = plan(0.0, queue_of(tight, *others).items, time, 10)
    assert (planned.batch, planned.late) == (others, [tight])


def test_many_refusals_in_a_row_make_the_planner_try_what_the_curve_calls_hopeless() -> None:
    time = ServiceTime([(1, 10.0)], limit=1)
    for _ in range(200):
        planned = plan(0.0, queue_of(Item(deadline=1.0)).items, time, 1)
        if planned.batch:
            break
        time.doubt()
    assert planned.batch


def test_higher_priority_goes_before_an_earlier_deadline() -> None:
    items = [Item(deadline=1.0), Item(deadline=2.0)]
    batch = plan(0.0, queue_of(*items, priorities={1: 5}).items, ServiceTime(limit=1), 1).batch
    assert batch == [items[1]]


def test_arrival_decides_between_equals() -> None:
    items = [Item(), Item(), Item()]
    assert plan(0.0, queue_of(*items).items, ServiceTime(limit=2), 2).batch == items[:2]


def test_rows_are_counted_not_calls() -> None:
    items = [Item(rows=3), Item(rows=3), Item(rows=3)]
    assert plan(0.0, queue_of(*items).items, ServiceTime(limit=8), 8).batch == items[:2]


def test_other_groups_wait_for_their_own_batch() -> None:
    items = [Item(group="a"), Item(group="b"), Item(group="a")]
    assert plan(0.0, queue_of(*items).items, ServiceTime(limit=8), 8).batch == [items[0], items[2]]


def test_without_batches_every_call_runs_alone() -> None:
    items = [Item(), Item()]
    assert plan(0.0, queue_of(*items).items, ServiceTime(), 0).batch == items[:1]


@pytest.mark.parametrize(
    ("now", "deadline", "runs"),
    [(0.0, inf, False), (0.049, inf, False), (0.051, inf, True), (0.0, 0.030, False), (0.0097, 0.030, True)],
)
def test_max_delay_holds_back_until_the_oldest_waited_or_the_deadline_calls(
    now: float, deadline: float, runs: bool
) -> None:
    time = ServiceTime([(1, 0.010)], limit=4)
    planned = plan(now, queue_of(Item(deadline=deadline)).items, time, 4, max_delay=0.05)
    assert bool(planned.batch) is runs
    assert runs or planned.wake == pytest.approx(min(0.05, deadline - 0.020 - 2 * MARGIN))


def test_a_full_batch_is_not_held_back() -> None:
    items = [Item(rows=2), Item(rows=2)]
    assert plan(0.0, queue_of(*items).items, ServiceTime(limit=4), 4, max_delay=1.0).batch == items


def test_queue_removes_the_very_item_and_expires_by_deadline() -> None:
    items = [Item(rows=1, deadline=1.0), Item(rows=2, deadline=2.0), Item(rows=4)]
    queue = queue_of(*items)
    assert queue.first_deadline() == 1.0
    assert not queue.remove(Item(order=items[0].order))
    assert queue.remove(items[1])
    assert not queue.remove(items[1])
    assert queue.expired(1.0) == [items[0]]
    assert queue.rows == 4
    assert queue.clear() == [items[2]]
    assert (len(queue.items), queue.rows, queue.first_deadline()) == (0, 0, inf)
