"""Runs a request once for all who ask for it at the same time. Used by the dispatcher, where a deployment wants it.

What it costs is a digest of each request; what it gains is every execution but the first.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

from infermesh.errors import DeadlineExceeded, MeshError
from infermesh.gateway import admission
from infermesh.gateway.admission import Limits
from infermesh.gateway.frontends.oip.wire import field, scan
from infermesh.gateway.pending import DirectPending, Pending, Sink
from infermesh.gateway.queueing import Tally
from infermesh.gateway.targets import TargetState
from infermesh.mesh.fingerprint import fingerprint
from infermesh.mesh.wire import Bytes

_ID: Final = 3  # of a ModelInferResponse

Key = tuple[str, bytes]


class Flight:
    """A call that is executed, and those that wait for its answer."""

    __slots__ = ("bytes", "followers", "key", "leader")

    def __init__(self, key: Key, leader: Pending, followers: list[Pending]) -> None:
        self.key = key
        self.leader = leader
        self.followers = followers
        self.bytes = sum(len(follower.call.payload) for follower in followers)

    def answer(self, response: Bytes) -> None:
        """Gives everybody the leader's response, under his own id."""
        said = scan(self.leader.call.payload).id
        for follower in self.followers:
            own = scan(follower.call.payload).id
            # of a field that comes twice the last one counts
            payload = response if own == said else b"".join((response, field(_ID, own.encode())))
            follower.deliver(payload, True, 0, 0)

    def fail(self, error: MeshError) -> None:
        """Ends every call that waits."""
        for follower in self.followers:
            follower.fail(error)


class SingleFlight:
    """Calls under way, by what they ask of which target. Nothing is kept once it is answered.

    Every caller keeps its own deadline and may go away. If the one goes whose call is executed, the next one takes its
    place: its going says nothing about the request. Any other error is everybody's. `resume` sends a call.
    """

    def __init__(self, resume: Callable[[Pending], None], limits: Limits, tally: Tally) -> None:
        self._resume = resume
        self._limits = limits
        self._tally = tally
        self._flights: dict[Key, Flight] = {}

    def join(self, pending: Pending, target: TargetState) -> bool:
        """Returns whether the call needs no sending: it waits for the answer to another, or was refused."""
        key = (target.route.name, fingerprint(pending.call.payload))
        flight = self._flights.get(key)
        if flight is None:
            self._begin(key, pending, [])
            return False
        if flight.leader is pending:  # it was sent before, and comes back
            return False
        pending.target = target
        limit = target.route.max_queue or self._limits.max_queue
        size = len(pending.call.payload)
        if len(flight.followers) >= limit:
            pending.fail(admission.queue_full(pending.call, limit, target.drain_time()))
        elif self._tally.bytes + size > self._limits.max_waiting_bytes:
            pending.fail(admission.memory_full(pending.call, self._limits.max_waiting_bytes, target.drain_time()))
        else:
            flight.followers.append(pending)
            flight.bytes += size
            self._tally.bytes += size
            target.stats.shared += 1
        return True

    def _begin(self, key: Key, leader: Pending, followers: list[Pending]) -> None:
        flight = self._flights[key] = Flight(key, leader, followers)
        self._tally.bytes += flight.bytes
        if isinstance(leader, DirectPending):
            leader.tap(lambda sink: Tap(sink, partial(self._answered, flight), partial(self._failed, flight)))
        leader.add_done_callback(partial(self._ended, flight))

    def _ended(self, flight: Flight, call: "asyncio.Future[Bytes]") -> None:
        """The leader's future has ended; a direct call has told its result before."""
        if call.cancelled():
            if self._land(flight):
                self._promote(flight)
        elif isinstance(error := call.exception(), MeshError):
            self._failed(flight, error)
        else:
            self._answered(flight, call.result())

    def _answered(self, flight: Flight, response: Bytes) -> None:
        if self._land(flight):
            flight.answer(response)

    def _failed(self, flight: Flight, error: MeshError) -> None:
        if not self._land(flight):
            return
        if isinstance(error, DeadlineExceeded):
            self._promote(flight)
        else:
            flight.fail(error)

    def _land(self, flight: Flight) -> bool:
        """Forgets a flight. Returns whether there is anybody to tell; a flight lands but once."""
        if self._flights.get(flight.key) is not flight:
            return False
        del self._flights[flight.key]
        self._tally.bytes -= flight.bytes
        flight.followers = [follower for follower in flight.followers if not follower.done()]
        return bool(flight.followers)

    def _promote(self, flight: Flight) -> None:
        leader, *followers = flight.followers
        self._begin(flight.key, leader, followers)
        self._resume(leader)


class Tap:
    """Tells a call's result to its own sink and to another."""

    def __init__(self, own: Sink, answered: Callable[[Bytes], None], failed: Callable[[MeshError], None]) -> None:
        self._own = own
        self._answered = answered
        self._failed = failed

    def answer(self, payload: Bytes, /) -> None:
        """The call was answered."""
        self._own.answer(payload)
        self._answered(payload)

    def fail(self, error: MeshError, /) -> None:
        """The call has failed."""
        self._own.fail(error)
        self._failed(error)
