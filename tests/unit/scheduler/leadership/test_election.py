"""An election in virtual time, over a Lease in memory."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from infermesh.scheduler.leadership.base import Lease
from infermesh.scheduler.leadership.candidate import Candidate
from infermesh.scheduler.leadership.election import Election
from infermesh.testing.clock import FakeClock
from tests.unit.scheduler.leadership.leases import Board, Fate, RemoteLease

DURATION, DEADLINE, RETRY = 10, 7.0, 2.0


class Runner:
    """A candidate that runs."""

    def __init__(self, name: str, board: Board, clock: FakeClock) -> None:
        self.store = RemoteLease(board, clock)
        self.election = Election(self.store, Candidate(name, DURATION, DEADLINE), RETRY, clock, lambda: 0.0)
        self.task = asyncio.ensure_future(self.election.run())

    @property
    def leads(self) -> bool:
        return self.election.holds()

    async def die(self) -> None:
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def board() -> Board:
    return Board()


@pytest.fixture
async def two(board: Board, clock: FakeClock) -> AsyncIterator[tuple[Runner, Runner]]:
    first = Runner("a", board, clock)
    await clock.advance(0.5)
    second = Runner("b", board, clock)
    await clock.advance(0.5)
    yield first, second
    await first.die()
    await second.die()


async def test_the_first_leads_and_goes_on(two: tuple[Runner, Runner], clock: FakeClock) -> None:
    first, second = two
    assert await first.election.gained() == "there was no lease"
    for _ in range(30):
        await clock.advance(1.0)
        assert (first.leads, second.leads) == (True, False)


async def test_a_leader_renews_without_reading_first(two: tuple[Runner, Runner], clock: FakeClock) -> None:
    first, _ = two
    before = first.store.requests
    await clock.advance(20.0)
    assert first.store.requests - before == 10


async def test_after_a_release_another_leads_with_its_next_try(two: tuple[Runner, Runner], clock: FakeClock) -> None:
    first, second = two
    await first.die()
    await first.election.release()
    assert not first.leads
    await clock.advance(RETRY)
    assert second.leads
    assert await second.election.gained() == "the lease was free"


async def test_after_a_death_another_leads_as_soon_as_the_lease_has_ended(
    two: tuple[Runner, Runner], clock: FakeClock
) -> None:
    first, second = two
    await first.die()  # renewed at 0.0; seen by the second at 0.5, which was half a second ago
    await clock.advance(9.4)
    assert not second.leads
    await clock.advance(0.2)
    assert second.leads
    assert await second.election.gained() == "a did not renew the lease"


async def test_a_leader_that_cannot_renew_stops_at_the_deadline_and_says_why(
    two: tuple[Runner, Runner], clock: FakeClock
) -> None:
    first, second = two
    lost = asyncio.ensure_future(first.election.lost())
    first.store.fate = lambda: Fate(arrives=False)
    await clock.advance(5.9)
    assert first.leads
    assert not lost.done()
    await clock.advance(0.2)
    assert not first.leads
    assert lost.done()
    assert lost.result() == "the lease was not renewed in time: no answer"
    await clock.advance(3.5)
    assert second.leads


async def test_the_lead_counts_from_before_the_request_however_late_its_answer(board: Board, clock: FakeClock) -> None:
    only = Runner("a", board, clock)
    fates = iter([Fate(back=1.25), Fate(back=1.25)])
    only.store.fate = lambda: next(fates, Fate(arrives=False))
    await clock.advance(2.5)  # read; asked at 1.25, answered now
    assert only.leads
    await clock.advance(5.7)
    assert only.leads
    await clock.advance(0.2)
    assert not only.leads
    await only.die()


async def test_a_request_that_hangs_does_not_keep_the_leader_from_stopping(
    two: tuple[Runner, Runner], clock: FakeClock
) -> None:
    first, _ = two
    lost = asyncio.ensure_future(first.election.lost())
    first.store._timeout = 1_000.0
    first.store.fate = lambda: Fate(there=2_000.0)
    await clock.advance(6.1)
    assert lost.done()
    assert not first.leads


async def test_an_outage_ends_the_lead_and_its_end_brings_one_leader(
    two: tuple[Runner, Runner], clock: FakeClock
) -> None:
    for runner in two:
        runner.store.fate = lambda: Fate(arrives=False)
    await clock.advance(60.0)
    assert not any(runner.leads for runner in two)
    for runner in two:
        runner.store.fate = Fate
    await clock.advance(5.0)
    assert [runner.leads for runner in two].count(True) == 1


async def test_a_leader_whose_lease_was_taken_stops_with_its_next_try(
    two: tuple[Runner, Runner], board: Board, clock: FakeClock
) -> None:
    first, _ = two
    lost = asyncio.ensure_future(first.election.lost())
    board.edit(Lease("somebody", 10, 1))
    await clock.advance(RETRY)
    assert lost.done()
    assert lost.result() == "the lease is held by somebody"


async def test_a_note_that_somebody_puts_on_the_lease_does_no_harm(
    two: tuple[Runner, Runner], board: Board, clock: FakeClock
) -> None:
    first, _ = two
    assert board.lease
    board.edit(board.lease)  # another version of the same
    await clock.advance(RETRY)
    assert first.leads
    assert board.lease.holder == "a"


async def test_a_renewal_that_was_written_but_not_answered_is_found(
    two: tuple[Runner, Runner], clock: FakeClock
) -> None:
    first, second = two
    first.store.fate = lambda: Fate(answered=False)
    await clock.advance(3.0)
    first.store.fate = Fate
    await clock.advance(20.0)
    assert (first.leads, second.leads) == (True, False)


async def test_who_is_stopped_while_it_takes_the_lease_gives_it_back(board: Board, clock: FakeClock) -> None:
    only = Runner("a", board, clock)
    only.store.fate = lambda: Fate(back=1.0)
    await clock.advance(1.5)  # read; the write has arrived, its answer not
    await only.die()
    only.store.fate = Fate
    await only.election.release()
    assert board.lease is not None
    assert (board.lease.holder, board.lease.duration) == ("", 1)


async def test_release_without_an_api_server_ends(two: tuple[Runner, Runner], clock: FakeClock) -> None:
    first, second = two
    await first.die()
    first.store.fate = lambda: Fate(arrives=False)
    release = asyncio.ensure_future(first.election.release())
    await clock.advance(5.0)
    assert release.done()
    assert not first.leads
    await clock.advance(6.0)
    assert second.leads


async def test_release_by_one_that_only_stands_by_changes_nothing(
    two: tuple[Runner, Runner], board: Board, clock: FakeClock
) -> None:
    _, second = two
    await second.die()
    await second.election.release()
    assert board.lease == replace(board.lease, holder="a")  # type: ignore[type-var]


async def test_a_lease_that_is_deleted_is_made_again_by_the_leader(
    two: tuple[Runner, Runner], board: Board, clock: FakeClock
) -> None:
    first, second = two
    board.delete()
    await clock.advance(3 * RETRY)
    assert (first.leads, second.leads) == (True, False)
    assert board.lease is not None
    assert board.lease.holder == "a"
