"""The learned curve of batch times."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infermesh.worker.service_time import ServiceTime

LIMITS = st.integers(1, 300)
TIMES = st.floats(1e-6, 10.0)


def test_starts_from_measurements_and_draws_lines_between_them() -> None:
    time = ServiceTime([(1, 0.001), (8, 0.008)], limit=8)
    assert time.seconds(1) == pytest.approx(0.001)
    assert time.seconds(8) == pytest.approx(0.008)
    assert time.seconds(6) == pytest.approx(0.006)


def test_knows_nothing_at_first_and_then_what_it_saw() -> None:
    time = ServiceTime(limit=4)
    assert time.seconds(4) == 0.0
    assert time.rows_within(0.0) == 4
    time.observe(4, 0.1)
    assert time.seconds(4) == pytest.approx(0.1)


def test_follows_a_model_that_became_slower() -> None:
    time = ServiceTime([(1, 0.001), (16, 0.002)], limit=16)
    for _ in range(60):
        time.observe(16, 0.02)
    assert time.seconds(16) == pytest.approx(0.02, rel=0.01)
    assert time.seconds(1) == pytest.approx(0.001)


def test_an_observation_between_knots_moves_both_ends() -> None:
    time = ServiceTime([(1, 0.010), (16, 0.010)], limit=16)
    for _ in range(60):
        time.observe(12, 0.030)
    assert time.seconds(12) == pytest.approx(0.030, rel=0.01)


@given(LIMITS, st.lists(st.tuples(st.integers(1, 300), TIMES), max_size=6), st.lists(st.tuples(LIMITS, TIMES)))
def test_is_monotone_whatever_was_seen(
    limit: int, measured: list[tuple[int, float]], seen: list[tuple[int, float]]
) -> None:
    time = ServiceTime(measured, limit)
    for rows, seconds in seen:
        time.observe(min(rows, limit), seconds)
    curve = [time.seconds(rows) for rows in range(1, limit + 1)]
    assert all(a <= b * (1 + 1e-12) for a, b in pairwise(curve))
    assert all(seconds >= 0 for seconds in curve)
    assert all(time.seconds(rows) <= time.safe(rows) for rows in range(1, limit + 1))
    assert all(time.needed(rows) <= time.safe(rows) for rows in range(1, limit + 1))


@given(LIMITS, st.lists(st.tuples(st.integers(1, 300), TIMES), min_size=1, max_size=6), TIMES)
def test_rows_within_is_the_inverse(limit: int, measured: list[tuple[int, float]], budget: float) -> None:
    time = ServiceTime(measured, limit)
    rows = time.rows_within(budget)
    assert 0 <= rows <= limit
    if rows:
        assert time.safe(rows) <= budget * (1 + 1e-9)
    if rows < limit:
        # one row more than the answer, and one for rounding, takes longer than there is
        assert time.safe(min(limit, rows + 2)) >= budget * (1 - 1e-9)


def test_best_rows_is_where_larger_batches_stop_paying() -> None:
    flat = ServiceTime([(1, 0.001), (128, 0.001)], limit=128)
    assert flat.best_rows() == 128
    linear = ServiceTime([(1, 0.001), (128, 0.128)], limit=128)
    assert linear.best_rows() == 1
    assert ServiceTime(limit=128).best_rows() == 8
    assert ServiceTime(limit=2).best_rows() == 2


def test_best_rows_may_ask_for_more_than_nearly_the_best() -> None:
    time = ServiceTime([(1, 0.010), (2, 0.0105), (4, 0.020)], limit=4)
    assert (time.best_rows(), time.best_rows(0.98)) == (2, 4)


def test_a_promise_leaves_the_more_room_the_more_runs_stray() -> None:
    steady, wild = ServiceTime([(1, 0.010)], limit=1), ServiceTime([(1, 0.010)], limit=1)
    for turn in range(400):
        steady.observe(1, 0.010)
        wild.observe(1, 0.008 if turn % 2 else 0.012)
    assert steady.safe(1) == pytest.approx(0.010, rel=0.01)
    assert wild.safe(1) == pytest.approx(0.017, rel=0.2)


def test_a_stall_is_not_learnt_from_but_a_slower_model_is() -> None:
    time = ServiceTime([(1, 0.010)], limit=1)
    time.observe(1, 0.100)
    assert time.seconds(1) == pytest.approx(0.010)
    for _ in range(40):
        time.observe(1, 0.100)
    assert time.seconds(1) == pytest.approx(0.100, rel=0.01)


def test_fewer_rows_never_seem_to_take_longer_than_many_were_seen_to() -> None:
    time = ServiceTime([(1, 0.100), (16, 0.100)], limit=16)
    for _ in range(100):
        time.observe(16, 0.010)
    assert time.seconds(1) == pytest.approx(0.010, rel=0.05)


def test_doubt_lets_hopeless_work_through_sooner_or_later_and_a_run_ends_it() -> None:
    time = ServiceTime([(1, 0.010)], limit=1)
    assert time.needed(1) == time.safe(1)
    for _ in range(100):
        time.doubt()
    assert time.needed(1) < 1e-5
    time.observe(1, 0.010)
    assert time.needed(1) == time.safe(1)


def test_a_model_too_slow_for_its_warm_up_learns_under_load_that_batches_pay() -> None:
    """On an accelerator eight rows often take as long as one; the warm-up of a model of seconds sees only the one."""
    time = ServiceTime([(1, 1.0)], limit=8)
    sizes = []
    while (rows := time.worth_trying()) not in sizes:
        sizes.append(rows)
        time.observe(rows, 1.0)
    assert sizes == [2, 4, 8]
    assert time.seconds(8) == pytest.approx(1.0)
    assert time.best_rows() == 8


def test_sizes_are_no_longer_tried_once_larger_ones_do_not_pay() -> None:
    time = ServiceTime([(1, 1.0)], limit=64)
    assert time.worth_trying() == 2
    time.observe(2, 1.98)
    assert time.worth_trying() == time.best_rows() == 1
    assert time.seconds(64) == pytest.approx(64 * 0.99)


def test_sizes_whose_runs_are_brief_are_tried_though_the_last_did_not_pay() -> None:
    """Answers of a batch hold the next one up: what its size costs beside its run shows under load only."""
    time = ServiceTime([(8, 0.05), (16, 0.1)], limit=128)
    sizes = []
    while (rows := time.worth_trying()) not in sizes:
        sizes.append(rows)
        time.observe(rows, rows * 0.0058)
    assert sizes == [32, 64], "0.37 s for 64 rows is too long to try twice as many"
    assert rows == 64, "the largest that is as good as any"
    for _ in range(20):
        time.observe(64, 64 * 0.0064)
    assert time.worth_trying() == 32, "now it is not"


def test_a_stall_in_the_first_run_of_a_size_does_not_condemn_it() -> None:
    time = ServiceTime([(1, 1.0)], limit=4)
    time.observe(2, 30.0)
    assert time.seconds(2) == pytest.approx(2.0)
