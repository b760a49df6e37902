"""Whatever happens to clocks, requests and candidates: never two leaders at once, and one soon after all is well again.

Every candidate has a clock of its own, which shows another time and goes up to 8 % too fast or too slow. Requests are
late, lost, or arrive long after they were given up; the API server is away, for one or for all; candidates die.
"""

import asyncio
import contextlib
import random
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from infermesh.scheduler.leadership.candidate import Candidate
from infermesh.scheduler.leadership.election import Election
from infermesh.simulation.loop import VirtualLoop
from tests.unit.scheduler.leadership.leases import Board, Fate, RemoteLease

DURATION, DEADLINE, RETRY, CLOSING = 10, 7.0, 2.0, 1.0
TROUBLE = 60.0  # seconds in which things go wrong
SOON = 15.0  # seconds after which there is a leader again


class SkewedClock:
    """Shows the loop's virtual time as a clock would that is wrong in time and in rate."""

    def __init__(self, rate: float, offset: float) -> None:
        self._rate, self._offset = rate, offset

    def time(self) -> float:
        return self._offset + self._rate * asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds / self._rate))


class TrueClock(SkewedClock):
    """The network's: its delays are what they are."""

    def __init__(self) -> None:
        super().__init__(1.0, 0.0)


@dataclass(frozen=True)
class Scenario:
    """What goes wrong. Times in seconds; `outages` and `deaths` name a candidate by number, -1 is all of them."""

    rates: list[float]
    seed: int
    lost: float  # shares of the requests
    late: float
    outages: list[tuple[float, float, int]]
    deaths: list[tuple[float, int]]
    leaves: list[tuple[float, int]]


_TIMES = st.floats(0, TROUBLE)
_WHO = st.integers(0, 2)
scenarios = st.builds(
    Scenario,
    rates=st.lists(st.floats(0.92, 1.08), min_size=2, max_size=3),
    seed=st.integers(0, 10_000),
    lost=st.floats(0, 0.6),
    late=st.floats(0, 0.6),
    outages=st.lists(st.tuples(_TIMES, st.floats(1, 40), st.integers(-1, 2)), max_size=4),
    deaths=st.lists(st.tuples(_TIMES, _WHO), max_size=3),
    leaves=st.lists(st.tuples(_TIMES, _WHO), max_size=2),
)


class World:
    """Runs a scenario and watches who acts as the leader: from gaining the lead until what it began has stopped."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.board = Board()
        self.random = random.Random(scenario.seed)
        self.acting: list[str] = []
        self.together: list[list[str]] = []
        self.gains: list[float] = []
        self.died_leading: list[float] = []
        self._names = 0

    async def run(self) -> None:
        count = len(self.scenario.rates)
        places = [asyncio.ensure_future(self._place(number)) for number in range(count)]
        await asyncio.sleep(self.well_at() + 2 * TROUBLE)
        for place in places:
            place.cancel()
        await asyncio.gather(*places, return_exceptions=True)

    async def _place(self, number: int) -> None:
        """A pod: whoever dies or leaves is replaced by another, after a moment."""
        ends = [(at, False) for at, who in self.scenario.deaths if who == number]
        ends += [(at, True) for at, who in self.scenario.leaves if who == number]
        for at, politely in sorted(ends):
            await self._life(number, at, politely)
            await asyncio.sleep(self.random.uniform(0.5, 3))
        await self._life(number, 10 * TROUBLE, politely=False)

    async def _life(self, number: int, until: float, politely: bool) -> None:
        self._names += 1
        clock = SkewedClock(self.scenario.rates[number], offset=self.random.uniform(-1e6, 1e6))
        store = RemoteLease(self.board, TrueClock(), 1.4, lambda: self._fate(number))
        name = f"{number}-{self._names}"
        election = Election(store, Candidate(name, DURATION, DEADLINE), RETRY, clock, self.random.random)
        trying = asyncio.ensure_future(election.run())
        acting = asyncio.ensure_future(self._act(name, election, clock))
        try:
            await asyncio.sleep(max(0.0, until - asyncio.get_running_loop().time()))
        finally:
            if name in self.acting and not politely:
                self.died_leading.append(asyncio.get_running_loop().time())
            for task in (trying, acting):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        if politely:
            await election.release()

    async def _act(self, name: str, election: Election, clock: SkewedClock) -> None:
        while True:
            await election.gained()
            self.acting.append(name)
            self.gains.append(asyncio.get_running_loop().time())
            if len(self.acting) > 1:
                self.together.append(list(self.acting))
            try:
                await election.lost()
                await clock.sleep(CLOSING)
            finally:
                self.acting.remove(name)

    def _fate(self, number: int) -> Fate:
        now = asyncio.get_running_loop().time()
        if any(at <= now < at + lasts and who in (-1, number) for at, lasts, who in self.scenario.outages):
            return Fate(arrives=False)
        if now > TROUBLE:
            return Fate(there=0.01, back=0.01)
        return Fate(
            there=self.random.uniform(0, 20) if self.random.random() < self.scenario.late else 0.05,
            back=self.random.uniform(0, 3) if self.random.random() < self.scenario.late else 0.05,
            arrives=self.random.random() > self.scenario.lost,
            answered=self.random.random() > self.scenario.lost,
        )

    def well_at(self) -> float:
        """When the last trouble is over."""
        ends = [at + lasts for at, lasts, _ in self.scenario.outages]
        return max([TROUBLE, *ends])


@given(scenarios)
@settings(max_examples=40, deadline=None)
def test_never_two_leaders_and_one_soon_after_all_is_well(scenario: Scenario) -> None:
    world, seen = World(scenario), []

    async def look() -> None:
        await asyncio.sleep(world.well_at() + 20.0 + SOON)  # a request may arrive 20 s late and take the Lease
        seen.append(list(world.acting))

    async def both() -> None:
        await asyncio.gather(world.run(), look())

    VirtualLoop().run_until_complete(both())
    assert not world.together
    assert len(seen[0]) == 1


@given(st.lists(st.floats(0.92, 1.08), min_size=2, max_size=3), st.integers(0, 1_000), st.floats(5, TROUBLE))
@settings(max_examples=30, deadline=None)
def test_after_the_death_of_the_leader_there_is_another_soon(rates: list[float], seed: int, at: float) -> None:
    deaths = 0
    for victim in range(len(rates)):
        world = World(Scenario(rates, seed, 0.0, 0.0, [], [(at, victim)], []))
        VirtualLoop().run_until_complete(world.run())
        assert not world.together
        if world.died_leading[0] == at:
            deaths += 1
            assert min(gain for gain in world.gains if gain > at) - at <= SOON
    assert deaths == 1
