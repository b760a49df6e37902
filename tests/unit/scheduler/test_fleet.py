"""Which workers are alive, in virtual time."""

from dataclasses import replace

from infermesh.scheduler.fleet import Fleet
from infermesh.scheduler.model import Worker
from tests.unit.scheduler.build import ready, worker

W1, W2 = worker("w1"), worker("w2")


def ids(workers: list[Worker] | tuple[Worker, ...]) -> list[str]:
    return [item.id for item in workers]


def quiet(fleet: Fleet, since: float, until: float) -> list[str]:
    """Lets time pass as the scheduler does: it looks every quarter of a second. Returns who was lost."""
    lost, now = [], since
    while now < until:
        now += 0.25
        lost += ids(fleet.expire(now))
    return lost


def test_a_worker_that_was_heard_is_there() -> None:
    fleet = Fleet(1.0, 0.0)
    assert fleet.hear(W2, 0.0)
    assert fleet.hear(W1, 0.0)
    assert ids(fleet.workers()) == ["w1", "w2"]


def test_a_heartbeat_that_tells_nothing_new_says_so() -> None:
    fleet = Fleet(1.0, 0.0)
    fleet.hear(W1, 0.0)
    assert not fleet.hear(worker("w1"), 1.0)
    assert fleet.hear(worker("w1", *ready("d/1")), 2.0)
    assert fleet.hear(worker("w1", *ready("d/1"), draining=True), 3.0)


def test_a_worker_silent_for_three_intervals_is_gone_and_not_before() -> None:
    fleet = Fleet(1.0, 0.0)
    fleet.hear(W1, 0.0)
    assert quiet(fleet, 0.0, 2.75) == []
    assert quiet(fleet, 2.75, 3.0) == ["w1"]
    assert fleet.workers() == ()


def test_heartbeats_keep_a_worker() -> None:
    fleet = Fleet(1.0, 0.0)
    for second in range(10):
        fleet.hear(W1, float(second))
        assert quiet(fleet, second, second + 1) == []


def test_only_the_silent_one_goes() -> None:
    fleet = Fleet(1.0, 0.0)
    fleet.hear(W1, 0.0)
    fleet.hear(W2, 0.0)
    quiet(fleet, 0.0, 2.0)
    fleet.hear(W2, 2.0)
    assert quiet(fleet, 2.0, 4.0) == ["w1"]


def test_a_late_heartbeat_brings_it_back() -> None:
    fleet = Fleet(1.0, 0.0)
    fleet.hear(W1, 0.0)
    quiet(fleet, 0.0, 10.0)
    assert fleet.hear(W1, 10.0)
    assert ids(fleet.workers()) == ["w1"]


def test_leaving_forgets_it_at_once() -> None:
    fleet = Fleet(1.0, 0.0)
    fleet.hear(W1, 0.0)
    assert fleet.leave(W1, 0.5)
    assert fleet.workers() == ()
    assert not fleet.leave(W1, 0.6)


def test_a_heartbeat_that_was_overtaken_by_leaving_counts_nothing() -> None:
    fleet = Fleet(1.0, 0.0)
    fleet.hear(W1, 0.0)
    fleet.leave(W1, 0.5)
    assert not fleet.hear(W1, 0.6)
    assert fleet.workers() == ()


def test_a_new_process_replaces_the_old_one_of_its_name() -> None:
    fleet = Fleet(1.0, 0.0)
    fleet.hear(worker("w1", *ready("d/1")), 0.0)
    young = replace(W1, incarnation="young")
    assert fleet.hear(young, 1.0)
    assert fleet.workers() == (young,)


def test_nothing_is_heard_of_a_process_that_was_replaced() -> None:
    fleet = Fleet(1.0, 0.0)
    fleet.hear(W1, 0.0)
    young = replace(W1, incarnation="young")
    fleet.hear(young, 1.0)
    assert fleet.is_retired(W1)
    assert not fleet.hear(W1, 1.1)
    assert not fleet.leave(W1, 1.2)
    assert fleet.workers() == (young,)


def test_time_in_which_the_scheduler_itself_did_not_run_is_not_held_against_the_workers() -> None:
    """It was stopped for a minute; nobody could be heard, so nobody was silent."""
    fleet = Fleet(1.0, 0.0)
    fleet.hear(W1, 0.0)
    quiet(fleet, 0.0, 1.0)
    assert fleet.expire(61.0) == []
    assert quiet(fleet, 61.0, 62.75) == []
    assert quiet(fleet, 62.75, 63.25) == ["w1"]


def test_who_was_replaced_long_ago_is_forgotten() -> None:
    fleet = Fleet(1.0, 0.0)
    for number in range(50):
        fleet.hear(worker(f"w{number}"), 0.0)
        fleet.leave(worker(f"w{number}"), 0.0)
    assert fleet.is_retired(W1)
    quiet(fleet, 0.0, 70.0)
    assert not fleet.is_retired(W1)
