"""Traffic shares are exact in expectation and even in every stretch."""

from collections import Counter
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from infermesh.gateway.shares import Shares


@given(seed=st.integers())
def test_ten_per_cent_of_500_calls_are_50(seed: int) -> None:
    shares = Shares([("1", 90), ("2", 10)], Random(seed))

    assert abs(Counter(shares.draw() for _ in range(500))["2"] - 50) <= 3


@given(st.lists(st.integers(1, 1_000), min_size=1, max_size=6), st.integers())
def test_every_stretch_is_close_to_the_weights(weights: list[int], seed: int) -> None:
    shares = Shares(list(enumerate(weights)), Random(seed))
    found = Counter(shares.draw() for _ in range(1_000))

    for value, weight in enumerate(weights):
        assert abs(found[value] - 1_000 * weight / sum(weights)) <= 8


def test_the_expected_share_of_a_single_call_is_exact() -> None:
    rng = Random(11)
    first = Counter(Shares([("1", 3), ("2", 1)], rng).draw() for _ in range(20_000))

    assert 0.24 < first["2"] / 20_000 < 0.26


def test_one_value_is_always_drawn() -> None:
    shares = Shares([("1", 7)], Random(1))

    assert {shares.draw() for _ in range(10)} == {"1"}


def test_without_values_there_is_nothing_to_draw() -> None:
    assert not Shares([], Random(1))
