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
from infermesh.gateway.pending import Pending
from infermesh.gateway.queueing import Tally
from infermesh.gateway.targets import TargetState
from infermesh.mesh.fingerprint import fingerprint

_ID: Final = 3  # of a ModelInferResponse

Key = tuple[str, bytes]


class Flight:
    """A call that is executed, and those that wait for its answer."""

    __slots__ = ("bytes", "followers", "leader")

    def __init__(self, leader: Pending, followers: list[Pending]) -> None:
        self.leader = leader
        self.followers = followers
        self.bytes = sum(len(follower.call.payload) for follower in followers)


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
        flight = self._flights[key] = Flight(leader, followers)
        self._tally.bytes += flight.bytes
        leader.add_done_callback(partial(self._land, key, flight))

    def _land(self, key: Key, flight: Flight, ended: "asyncio.Future[bytes]") -> None:
        del self._flights[key]
        self._tally.bytes -= flight.bytes
        error = None if ended.cancelled() else ended.exception()
        waiting = [follower for follower in flight.followers if not follower.done()]
        if not waiting:
            return
        if ended.cancelled() or isinstance(error, DeadlineExceeded):
            self._begin(key, waiting[0], waiting[1:])
            self._resume(waiting[0])
        elif isinstance(error, MeshError):
            for follower in waiting:
                follower.fail(error)
        else:
            self._answer(flight.leader, waiting, ended.result())

    @staticmethod
    def _answer(leader: Pending, waiting: list[Pending], response: bytes) -> None:
        said = scan(leader.call.payload).id
        for follower in waiting:
            own = scan(follower.call.payload).id
            # of a field that comes twice the last one counts
            payload = response if own == said else response + field(_ID, own.encode())
            follower.deliver(payload, True, 0, 0)
