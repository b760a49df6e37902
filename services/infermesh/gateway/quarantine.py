"""Queries of death: requests that kill the runner which executes them. Used by the dispatcher.

Workers tell which requests they suspect and which they refuse (`worker/suspicion.py`). A gateway keeps copies of a
suspect from killing more runners: they are held while one of them is executed alone. If it passes, they all go on; if
its runner dies, they are all refused, and so is whatever asks the same, until the version goes.

Where a suspect is tried: on the worker that has lost a runner to it already, because another death costs least there.
Elsewhere only if that worker does not come back soon, or if so many calls ask the same that it must have been answered
many times before.
"""

import asyncio
from collections.abc import Callable, Iterable
from itertools import combinations
from typing import Final

import structlog

from infermesh.errors import MeshError, QueryOfDeath, RunnerDied, WorkerLost
from infermesh.gateway import admission
from infermesh.gateway.admission import Limits
from infermesh.gateway.parking import Parking
from infermesh.gateway.pending import Pending
from infermesh.gateway.targets import Lane, TargetState
from infermesh.mesh.fingerprint import Fingerprints
from infermesh.names import parse_target
from infermesh.v1.worker_service_pb2 import Suspicion

_MOST: Final = 1024  # quarantined requests of one version
_PATIENCE: Final = 2.0  # seconds in which a worker may get its runner back, before a suspect is tried elsewhere
_POPULAR: Final = 0.25  # share of the calls
_FEW: Final = 4  # calls, of which a share says nothing
_SURVIVED: Final = frozenset({"OK", "INVALID_ARGUMENT", "INTERNAL"})  # codes of what was executed
log = structlog.get_logger(__name__)


class Quarantine:
    """What is held against requests of one version, and the calls that wait for a verdict.

    `resume` sends a call that is nowhere. Calls that are held are parked, too, so that they can be withdrawn.
    """

    def __init__(self, name: str, parking: Parking, resume: Callable[[Pending], None], limits: Limits) -> None:
        self._loop = asyncio.get_running_loop()
        self._name = name
        self._parking, self._resume, self._limits = parking, resume, limits
        self.target: TargetState | None = None
        self._told: dict[str, Suspicion] = {}
        self._passed: set[bytes] = set()
        self._guilty: dict[bytes, None] = {}
        self._open: frozenset[bytes] = frozenset()
        self._known = Fingerprints()
        self._held: dict[bytes, dict[Pending, None]] = {}
        self._trials: dict[bytes, Pending] = {}
        self._since = 0.0
        self._seen = 0
        self._due = False

    @property
    def quarantined(self) -> int:
        """How many requests are refused."""
        return len(self._guilty)

    # --- calls -----------------------------------------------------------------------------------------------------

    def admit(self, pending: Pending) -> bool:
        """Returns whether a call may go to any worker. Else it is held, or was refused."""
        self._seen += 1
        found = self._known.match(pending.call.payload)
        if found is None:
            return True
        if found in self._guilty:
            if self.target is not None:
                self.target.stats.refused += 1
            pending.fail(QueryOfDeath.of(*parse_target(self._name)))
        elif sum(map(len, self._held.values())) >= self._limits.max_queue:
            pending.fail(admission.queue_full(pending.call, self._limits.max_queue, _PATIENCE))
        else:
            self._hold(found, pending)
        return False

    def _hold(self, found: bytes, pending: Pending) -> None:
        longest = 3 * self._limits.hold  # a verdict takes up to two deaths, each a hold for its worker to come back
        error = admission.no_worker(pending.call, longest, _PATIENCE)
        self._parking.park(pending, longest, lambda: pending.fail(error))
        self._held.setdefault(found, {})[pending] = None
        if not self._due:
            self._due = True
            self._loop.call_soon(self.look)

    def suspects(self, pending: Pending) -> bool:
        """Tells whether anything is held against what a call asks."""
        return self._known.match(pending.call.payload) is not None

    def sort_out(self, calls: Iterable[Pending]) -> list[Pending]:
        """Returns those calls whose requests something is held against, and which can be taken back."""
        return [call for call in calls if not call.alone and call.repeatable() and self.suspects(call)]

    def tried(self, pending: Pending, code: str) -> None:
        """Hears how the trial of a suspect has ended; `code` is empty if the call is still to be answered."""
        pending.alone = False
        found = next((found for found, trial in self._trials.items() if trial is pending), None)
        if found is None:
            return
        del self._trials[found]
        if code in _SURVIVED:
            self._passed.add(found)
        self._loop.call_soon(self._settle)

    # --- what workers tell -----------------------------------------------------------------------------------------

    def hear(self, worker: str, told: Suspicion) -> bool:
        """Takes in all that a worker holds against requests now; returns whether that is news."""
        before = self._known
        if told.suspects or told.quarantined:
            self._told[worker] = told
        else:
            self._told.pop(worker, None)
        for found in told.quarantined:
            self._convict(found, f"died again on worker '{worker}', alone")
        self._settle()
        return before is not self._known

    def _settle(self) -> None:
        """Draws the conclusions from what is known: who is suspect, who is guilty, who may go on."""
        suspects = frozenset(found for told in self._told.values() for found in told.suspects)
        self._passed &= suspects
        self._convict_common(suspects - self._passed)
        still_open = suspects - self._passed - self._guilty.keys()
        if still_open and not self._open:
            self._since, self._seen = self._loop.time(), 0
            self._loop.call_later(_PATIENCE, self.look)
        self._open = still_open
        known = still_open | self._guilty.keys()
        if known != self._known.all:
            self._known = Fingerprints(known)
        for found in self._held.keys() - still_open:
            self._release(self._held.pop(found))
        self.look()

    def _convict_common(self, suspects: frozenset[bytes]) -> None:
        """Two runners died of themselves at about the same time, and what they did had one request in common."""
        crashed = [suspects.intersection(told.suspects) for told in self._told.values() if told.crashed]
        for one, other in combinations(crashed, 2):
            common = one & other
            if len(common) == 1:
                self._convict(next(iter(common)), "was in two runners that died")

    def _convict(self, found: bytes, evidence: str) -> None:
        if found in self._guilty:
            return
        self._guilty[found] = None
        if len(self._guilty) > _MOST:
            del self._guilty[next(iter(self._guilty))]
        log.warning("request quarantined", target=self._name, fingerprint=found.hex(), evidence=evidence)

    def _release(self, calls: Iterable[Pending]) -> None:
        for pending in list(calls):
            if pending in self._parking:
                self._parking.leave(pending)
                self._resume(pending)

    def end(self) -> None:
        """The version is gone: lets every call go on, wherever that is."""
        for calls in self._held.values():
            self._release(calls)
        self._held.clear()

    # --- trials ----------------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Tries suspects for which calls wait, as far as there is credit where they may be tried."""
        self._due = False
        if self.target is None or not self._held:
            return
        for found in sorted(self._held, key=lambda found: -len(self._held[found])):
            if found not in self._trials and not (self._common(found) and any(map(self._common, self._trials))):
                self._try(found, self.target)

    def _common(self, found: bytes) -> bool:
        """Tells whether several runners died on a suspect. Such are tried one after the other: each that passes makes
        it more likely that the next one need not be tried."""
        return sum(found in told.suspects for told in self._told.values()) > 1

    def _try(self, found: bytes, target: TargetState) -> None:
        calls = self._held[found]
        for gone in [pending for pending in calls if pending not in self._parking]:
            del calls[gone]
        pending = next(iter(calls), None)
        if pending is None:
            del self._held[found]
            return
        lane = self._court(found, target, pending, len(calls))
        if lane is not None:
            self._parking.leave(pending)
            del calls[pending]
            pending.alone, pending.target = True, target
            self._trials[found] = pending
            lane.ledger.send(lane, pending)

    def _court(self, found: bytes, target: TargetState, pending: Pending, calls: int) -> Lane | None:
        """Returns the lane on which a suspect is tried now, or None."""
        free = [lane for lane in target.lanes if lane.in_flight < lane.credit]
        at_home = [lane for lane in free if self._is_home(lane, found)]
        if at_home:
            return at_home[0]
        now, deadline = self._loop.time(), pending.call.deadline
        impatient = now >= self._since + _PATIENCE or (deadline is not None and deadline < now + _PATIENCE)
        popular = calls >= _FEW and calls >= _POPULAR * self._seen
        # every gateway takes the same worker: their trials wait for each other there
        return min(free, key=lambda lane: lane.worker, default=None) if impatient or popular else None

    def _is_home(self, lane: Lane, found: bytes) -> bool:
        told = self._told.get(lane.worker)
        return told is not None and found in told.suspects


class Quarantines:
    """The quarantines of all versions; each lasts as long as its version, whether workers have it or not."""

    def __init__(self, parking: Parking, resume: Callable[[Pending], None], limits: Limits) -> None:
        self._parking, self._resume, self._limits = parking, resume, limits
        self._of: dict[str, Quarantine] = {}

    def hear(self, worker: str, told: Suspicion, target: TargetState | None) -> Quarantine | None:
        """Takes in what a worker holds against requests; returns the quarantine if that changes what may be sent."""
        quarantine = self._of.get(told.target)
        if quarantine is None:
            if not (told.suspects or told.quarantined):
                return None
            quarantine = self._of[told.target] = Quarantine(told.target, self._parking, self._resume, self._limits)
        if target is not None:
            self.join(target)
        return quarantine if quarantine.hear(worker, told) else None

    @staticmethod
    def tried(pending: Pending, code: str) -> None:
        """See `Quarantine.tried`; for a call that was sent alone."""
        if pending.target is not None and pending.target.quarantine is not None:
            pending.target.quarantine.tried(pending, code)

    @staticmethod
    def excuses(pending: Pending, error: MeshError, not_started: bool) -> bool:
        """Tells whether a call that came back may go on without counting as a retry.

        Its runner died before it came to it, or while it executed it and now it will be tried alone. Neither can happen
        more often than runners die.
        """
        if not pending.sent or not isinstance(error, WorkerLost):
            return False
        if not_started:
            return True
        quarantine = None if pending.target is None else pending.target.quarantine
        suspect = isinstance(error, RunnerDied) and quarantine is not None and quarantine.suspects(pending)
        return suspect and pending.repeatable()

    def join(self, target: TargetState) -> None:
        """Gives a target that routes lead to its quarantine, if there is one."""
        quarantine = self._of.get(target.route.name)
        if quarantine is not None:
            quarantine.target, target.quarantine = target, quarantine

    def forget(self, gone: Callable[[str], bool]) -> None:
        """Ends the quarantines of versions that are gone."""
        for name in [name for name in self._of if gone(name)]:
            self._of.pop(name).end()
