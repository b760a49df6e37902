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
    assert all(time.fastest(rows) <= time.seconds(rows) for rows in range(1, limit + 1))


@given(LIMITS, st.lists(st.tuples(st.integers(1, 300), TIMES), min_size=1, max_size=6), TIMES)
def test_rows_within_is_the_inverse(limit: int, measured: list[tuple[int, float]], budget: float) -> None:
    time = ServiceTime(measured, limit)
    rows = time.rows_within(budget)
    assert 0 <= rows <= limit
    if rows:
        assert time.seconds(rows) <= budget * (1 + 1e-9)
    if rows < limit:
        # one row more than the answer, and one for rounding, takes longer than there is
        assert time.seconds(min(limit, rows + 2)) >= budget * (1 - 1e-9)


def test_best_rows_is_where_larger_batches_stop_paying() -> None:
    flat = ServiceTime([(1, 0.001), (128, 0.001)], limit=128)
    assert flat.best_rows() == 128
    linear = ServiceTime([(1, 0.001), (128, 0.128)], limit=128)
    assert linear.best_rows() == 1
    assert ServiceTime(limit=128).best_rows() == 8
    assert ServiceTime(limit=2).best_rows() == 2


def test_fastest_remembers_luck_forgets_it_slowly_and_yields_to_doubt() -> None:
    time = ServiceTime([(1, 0.010)], limit=1)
    assert time.fastest(1) == pytest.approx(0.005)
    time.observe(1, 0.001)
    lucky = time.fastest(1)
    assert lucky < 0.002
    for _ in range(100):
        time.observe(1, 0.010)
    assert time.fastest(1) > lucky
    for _ in range(100):
        time.doubt()
    assert time.fastest(1) < 1e-6
