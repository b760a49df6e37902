"""Arrival processes: the rate that was asked for, the shape of their name, and the same again from the same seed."""

import numpy as np
import pytest

from infermesh.loadgen.arrivals import Arrivals, schedule


@pytest.mark.parametrize(("kind", "cv"), [(Arrivals.poisson, 1.0), (Arrivals.bursty, 4.0)])
def test_gaps_have_the_mean_and_the_variation_that_the_name_promises(kind: Arrivals, cv: float) -> None:
    gaps = np.diff(schedule(kind, rate=1_000, duration=200, seed=1), prepend=0.0)

    assert gaps.mean() == pytest.approx(1e-3, rel=0.05)
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.05)


@pytest.mark.parametrize("kind", [Arrivals.poisson, Arrivals.bursty])
def test_times_ascend_within_the_duration_and_repeat_with_their_seed(kind: Arrivals) -> None:
    times = schedule(kind, rate=50, duration=7.5, seed=3)

    assert (np.diff(times) >= 0).all()
    assert 0 <= times[0] <= times[-1] < 7.5
    assert np.array_equal(times, schedule(kind, rate=50, duration=7.5, seed=3))
    assert not np.array_equal(times[:5], schedule(kind, rate=50, duration=7.5, seed=4)[:5])


def test_poisson_arrivals_vary_as_much_as_their_number() -> None:
    counts = np.histogram(schedule(Arrivals.poisson, 50, 2_000, seed=3), bins=2_000, range=(0, 2_000))[0]

    assert counts.var() == pytest.approx(counts.mean(), rel=0.2)


def test_a_rate_so_low_that_no_call_is_due() -> None:
    assert schedule(Arrivals.poisson, rate=0.001, duration=1.0, seed=0).size == 0


def test_closed_arrivals_have_no_schedule() -> None:
    with pytest.raises(ValueError, match="follow the answers"):
        schedule(Arrivals.closed, 1, 1, 0)
