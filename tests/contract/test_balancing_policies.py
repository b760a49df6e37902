"""What every balancing policy does, ours and other people's alike."""

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infermesh.gateway.balancing import BalancingPolicy, Candidate, policies

TABLE = policies()
OURS = ("round_robin", "random", "least_load", "weighted")
EVEN = OURS  # with equal candidates every one of ours is even


@pytest.fixture(params=OURS)
def choose(request: pytest.FixtureRequest) -> BalancingPolicy:
    return TABLE.load(request.param)


candidates = st.lists(
    st.builds(
        Candidate,
        worker=st.uuids().map(str),
        weight=st.floats(0.01, 100),
        credit=st.integers(1, 512),
        in_flight=st.integers(0, 511),
        elsewhere=st.integers(0, 1000),
        queued_rows=st.integers(0, 10_000),
        service_time_us=st.integers(0, 10_000_000),
        turn=st.integers(0, 1_000_000),
    ),
    min_size=2,
    max_size=9,
)


def drawn(choose: BalancingPolicy, workers: list[Candidate], count: int, seed: int = 1) -> Counter[str]:
    """Returns how often each worker was chosen in `count` choices, with turns counted as the dispatcher does."""
    rng, found = Random(seed), Counter[str]()
    for turn in range(1, count + 1):
        chosen = choose(workers, rng)
        chosen.turn = turn
        found[chosen.worker] += 1
    return found


def test_the_table_names_ours() -> None:
    assert set(OURS) <= set(TABLE.names())


@pytest.mark.parametrize("name", OURS)
@given(workers=candidates, seed=st.integers())
def test_the_choice_is_one_of_the_candidates(name: str, workers: list[Candidate], seed: int) -> None:
    assert any(TABLE.load(name)(workers, Random(seed)) is worker for worker in workers)


@pytest.mark.parametrize("name", OURS)
@given(workers=candidates, seed=st.integers())
def test_nothing_is_changed(name: str, workers: list[Candidate], seed: int) -> None:
    before = [repr(worker) for worker in workers]

    TABLE.load(name)(workers, Random(seed))

    assert [repr(worker) for worker in workers] == before


@pytest.mark.parametrize("name", OURS)
@given(workers=candidates, seed=st.integers())
def test_the_same_seed_gives_the_same_choices(name: str, workers: list[Candidate], seed: int) -> None:
    choose, one, other = TABLE.load(name), Random(seed), Random(seed)

    assert [choose(workers, one).worker for _ in range(5)] == [choose(workers, other).worker for _ in range(5)]


def test_equal_workers_get_equal_shares(choose: BalancingPolicy) -> None:
    workers = [Candidate(worker=str(n), credit=1, service_time_us=100) for n in range(4)]

    found = drawn(choose, workers, 4_000)

    assert all(850 <= found[str(n)] <= 1_150 for n in range(4)), found


def test_no_worker_starves_when_credit_comes_and_goes(choose: BalancingPolicy) -> None:
    workers = [Candidate(worker=str(n), credit=1, service_time_us=100) for n in range(5)]
    rng, found = Random(3), Counter[str]()
    for turn in range(1, 2_001):
        # in a rhythm that would let a position-counting policy pass by the same worker each time
        there = [worker for n, worker in enumerate(workers) if (turn + n) % 5]
        chosen = choose(there, rng)
        chosen.turn = turn
        found[chosen.worker] += 1

    assert min(found[worker.worker] for worker in workers) > 200, found


def test_round_robin_is_exact() -> None:
    workers = [Candidate(worker=str(n)) for n in range(3)]

    assert set(drawn(TABLE.load("round_robin"), workers, 300).values()) == {100}


def test_weighted_follows_the_weights() -> None:
    workers = [Candidate(worker="light", weight=1), Candidate(worker="heavy", weight=4)]

    found = drawn(TABLE.load("weighted"), workers, 5_000)

    assert 3_850 <= found["heavy"] <= 4_150


@given(slow=st.integers(2, 1_000), load=st.integers(0, 50))
def test_least_load_prefers_the_faster_of_two_that_are_equally_loaded(slow: int, load: int) -> None:
    fast = Candidate(worker="fast", in_flight=load, service_time_us=100)
    late = Candidate(worker="slow", in_flight=load, service_time_us=100 * slow)

    assert drawn(TABLE.load("least_load"), [fast, late], 20) == {"fast": 20}


@pytest.mark.parametrize("loaded", [{"in_flight": 5}, {"elsewhere": 5}, {"queued_rows": 5}])
def test_least_load_sees_every_kind_of_load(loaded: dict[str, int]) -> None:
    idle = Candidate(worker="idle", service_time_us=100)
    busy = Candidate(worker="busy", service_time_us=100, **loaded)  # type: ignore[arg-type]

    assert drawn(TABLE.load("least_load"), [busy, idle], 20) == {"idle": 20}
