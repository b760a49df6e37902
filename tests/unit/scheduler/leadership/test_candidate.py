"""The rules by which a candidate takes, keeps and gives back a Lease."""

from dataclasses import replace

import pytest

from infermesh.scheduler.leadership.base import Lease
from infermesh.scheduler.leadership.candidate import Candidate

HELD = Lease(holder="other", duration=10, transitions=3, version="7")


def candidate() -> Candidate:
    return Candidate("me", duration=10, deadline=7)


def leading(asked: float = 100.0) -> Candidate:
    found = candidate()
    found.observe(None, asked)
    proposal = found.proposal(asked)
    assert proposal is not None
    found.won(replace(proposal, version="1"), asked)
    return found


def test_before_it_has_looked_it_leads_nothing() -> None:
    assert not candidate().leads(0.0)
    assert candidate().resign() is None


@pytest.mark.parametrize(
    ("there", "transitions"), [(None, 0), (Lease(version="5"), 1), (Lease(duration=1, transitions=4, version="9"), 5)]
)
def test_what_nobody_holds_is_taken_at_once(there: Lease | None, transitions: int) -> None:
    found = candidate()
    found.observe(there, 100.0)
    proposal = found.proposal(100.0)
    assert proposal == Lease("me", 10, transitions, version=there.version if there else "")
    assert not found.leads(100.0)  # only what was written counts


def test_another_is_waited_for_as_long_as_it_promised_from_when_it_was_first_seen() -> None:
    found = candidate()
    found.observe(replace(HELD, duration=15), 100.0)
    found.observe(replace(HELD, duration=15), 110.0)
    assert found.proposal(114.9) is None
    assert found.free_at() == 115.0
    assert found.proposal(115.0) == Lease("me", 10, 4, version="7")


def test_every_write_of_another_begins_the_wait_anew() -> None:
    found = candidate()
    found.observe(HELD, 100.0)
    found.observe(replace(HELD, version="8"), 109.0)
    assert found.proposal(118.9) is None
    assert found.proposal(119.0) is not None


def test_one_that_promised_nothing_is_waited_for_as_long_as_oneself() -> None:
    found = candidate()
    found.observe(replace(HELD, duration=0), 100.0)
    assert found.free_at() == 110.0


def test_it_leads_until_the_deadline_counted_from_before_it_asked() -> None:
    found = leading(asked=100.0)
    assert found.leads(106.9)
    assert not found.leads(107.0)
    renewal = found.proposal(102.0)
    assert renewal == Lease("me", 10, 0, version="1")
    found.won(replace(renewal, version="2"), 102.0)
    assert found.leads(108.9)


def test_an_answer_that_comes_after_the_deadline_gives_nothing() -> None:
    found = candidate()
    found.observe(None, 100.0)
    found.won(Lease("me", 10, version="1"), 100.0)
    assert not found.leads(107.5)


def test_who_finds_another_in_the_lease_leads_no_more() -> None:
    found = leading()
    found.observe(HELD, 101.0)
    assert not found.leads(101.0)
    assert found.holder == "other"
    assert found.proposal(110.9) is None


def test_its_own_lease_is_taken_again_without_waiting() -> None:
    found = leading(asked=100.0)
    found.observe(Lease("me", 10, 0, version="2"), 130.0)  # written by a request that had been given up
    assert not found.leads(130.0)
    assert found.proposal(130.0) == Lease("me", 10, 0, version="2")


def test_a_lease_that_was_deleted_is_made_again_by_the_leader_at_once_and_by_others_after_its_time() -> None:
    found, standby = leading(asked=100.0), candidate()
    found.observe(None, 101.0)
    assert found.leads(101.0)
    assert found.proposal(101.0) == Lease("me", 10, 0)
    standby.observe(HELD, 100.0)
    standby.observe(None, 101.0)
    assert standby.proposal(110.9) is None
    assert standby.proposal(111.0) is not None


def test_who_resigns_leads_no_more_and_says_so() -> None:
    found = leading()
    assert found.resign() == Lease("", 1, 0, version="1")
    assert not found.leads(100.0)
    found.observe(HELD, 101.0)
    assert found.resign() is None
