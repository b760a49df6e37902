"""The calls on one worker: lanes and their credit, what is to be written next, what is made of what was read.

Used by the link, which does the reading and writing. Nothing here awaits.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog

from infermesh.errors import MeshError
from infermesh.gateway import items
from infermesh.gateway.pacing import Pacing
from infermesh.gateway.pending import Pending
from infermesh.gateway.targets import Lane, TargetState
from infermesh.mesh.parcel import NONE, Large, Parcel, Pieces, whole
from infermesh.mesh.wire import Bytes
from infermesh.v1.worker_service_pb2 import ResultBundle, ResultItem, Suspicion, TargetLoad, WorkBundle, WorkItem

log = structlog.get_logger(__name__)


class Sink(Protocol):
    """Hears what happens on links. The dispatcher. None of these blocks or raises."""

    def returned(self, pending: Pending, worker: str, error: MeshError, not_started: bool) -> None:
        """A call came back from `worker` without an answer; it is at no worker any more."""
        ...

    def lost(self, calls: Sequence[Pending], worker: str, error: MeshError) -> None:
        """`returned`, for all that one worker has lost at once; what was not sent had not begun."""
        ...

    def freed(self, target: TargetState) -> None:
        """There may be credit for calls that wait."""
        ...

    def changed(self, target: TargetState) -> None:
        """A lane of the target came to life or died."""
        ...

    def accused(self, worker: str, told: Suspicion) -> None:
        """A worker has told all that it now holds against requests of a target."""
        ...


class Ledger:
    """What one stream after the other to the same worker carries.

    `news` is called when there is something to write. What comes together before the next `take` leaves in one bundle.
    """

    def __init__(self, worker: str, sink: Sink, bundle_bytes: int, news: Callable[[], None]) -> None:
        self._worker = worker
        self._sink = sink
        self._bundle_bytes = bundle_bytes
        self._news = news
        self._weight = 1.0
        self._lanes: dict[str, Lane] = {}
        self._in_flight: dict[int, Pending] = {}
        self._last_id = 0
        self._outbox: list[Pending] = []
        self._pacing = Pacing(self._leave)
        self._cancels: list[int] = []
        self._probe = 0
        self.unheard = 0
        self._suspected: set[str] = set()
        self.draining = False

    def __len__(self) -> int:
        """Returns the calls under way."""
        return len(self._in_flight)

    def under_way(self, target: str) -> list[Pending]:
        """Returns the calls of a target."""
        return [call for call in self._in_flight.values() if call.lane is not None and call.lane.target == target]

    def credit(self) -> int:
        """Returns the calls that the worker takes at a time of the targets that it has calls of; if it has none, of
        all."""
        lanes = self._lanes.values()
        return sum(lane.credit for lane in lanes if lane.in_flight) or sum(lane.credit for lane in lanes)

    def lane(self, target: str) -> Lane:
        """Returns the lane of a target, which begins without credit."""
        lane = self._lanes.get(target)
        if lane is None:
            lane = self._lanes[target] = Lane(worker=self._worker, ledger=self, target=target, weight=self._weight)
        return lane

    def set_weight(self, weight: float) -> None:
        """Sets the worker's share under the `weighted` policy."""
        self._weight = weight
        for lane in self._lanes.values():
            lane.weight = weight

    def send(self, lane: Lane, pending: Pending) -> None:
        """Puts a call on its way; `lane` is one of this link's and has credit."""
        self._last_id = number = self._last_id + 1
        pending.id = number
        pending.lane = lane
        pending.sent = False
        lane.in_flight += 1
        self._in_flight[number] = pending
        if lane.holding and pending.kind == WorkItem.INFER:
            self._pacing.hold(lane, pending)
        else:
            self._outbox.append(pending)
            self._news()

    def _leave(self, calls: list[Pending]) -> None:
        self._outbox += calls
        self._news()

    def cancel(self, pending: Pending) -> None:
        """Takes a call back. Its lane has room for another at once: the worker is told of this before the other."""
        lane = pending.lane
        if lane is None or self._in_flight.pop(pending.id, None) is None:
            return
        pending.lane = None
        lane.in_flight -= 1
        if pending.sent:
            self._cancels.append(pending.id)
        if lane.in_flight <= len(lane.held):  # no answer will come any more
            self._pacing.release(lane)
        self._news()

    def to_write(self) -> bool:
        """Tells whether `take` has something to give."""
        return bool(self._outbox or self._cancels or self._probe)

    def ask(self, number: int) -> None:
        """Asks the worker, with the next bundle, whether it is there."""
        self._probe = number
        self._news()

    def take(self) -> Parcel[WorkBundle]:
        """Takes what is to be sent now, up to a size, cancels first: they make room for the rest."""
        bundle, large = WorkBundle(), dict[int, Pieces]()
        if self._probe:
            bundle.probe, self._probe = self._probe, 0
        for number in self._cancels:
            bundle.items.add(id=number, kind=WorkItem.CANCEL)
        self._cancels.clear()
        now = asyncio.get_running_loop().time()
        size, taken = 0, 0
        for pending in self._outbox:
            taken += 1
            lane = pending.lane
            if lane is None or pending.sent or self._in_flight.get(pending.id) is not pending:
                continue  # withdrawn before it left, or put on its way a second time since
            size += items.add(bundle, large, pending, now)
            lane.holding = pending.kind == WorkItem.INFER or lane.holding
            if size >= self._bundle_bytes:
                break
        del self._outbox[:taken]
        self.unheard += size
        return Parcel(bundle, large)

    def receive(self, bundle: ResultBundle, large: Large = NONE) -> None:
        """Answers calls, then takes the loads, then sends again what came back, then sends what waits: in this order,
        so that a worker that has just lost a model is not tried again with what it has handed back."""
        freed: dict[TargetState, None] = {}
        returned: list[tuple[Pending, ResultItem]] = []
        for pending, item in self._answer(bundle, large, returned, freed):
            self._ended(pending, freed)
            pending.settle(item.queue_us, item.compute_us)
        for pending, _ in returned:
            self._ended(pending, freed)
        for told in bundle.suspicions:
            self._suspected.add(told.target)
            self._sink.accused(self._worker, told)
        if bundle.draining and not self.draining:
            self._drain()
        for load in bundle.loads:
            self._take_load(load, freed)
        for pending, item in returned:
            self._sink.returned(pending, self._worker, items.error_of(item), item.not_started)
        for target in freed:
            self._sink.freed(target)

    def _answer(
        self,
        bundle: ResultBundle,
        large: Large,
        returned: list[tuple[Pending, ResultItem]],
        freed: dict[TargetState, None],
    ) -> list[tuple[Pending, ResultItem]]:
        """Gives calls their responses, and returns those that are answered now; puts those that failed into `returned`.

        All of a bundle in one go, before anything is counted: the front door takes them up while that is done, instead
        of being woken for each.
        """
        answered: list[tuple[Pending, ResultItem]] = []
        in_flight = self._in_flight
        for place, item in enumerate(bundle.results):
            number = item.id
            pending = in_flight.get(number)
            if pending is None:
                continue  # withdrawn meanwhile
            payload: Bytes = whole(large[place]) if place in large else item.payload
            final = item.final
            if not payload and item.HasField("error"):
                del in_flight[number]
                returned.append((pending, item))
            elif pending.kind == WorkItem.STREAM:
                if final:
                    del in_flight[number]
                    self._ended(pending, freed)
                pending.deliver(payload, final, item.queue_us, item.compute_us)
            else:
                del in_flight[number]
                pending.answer(payload)
                answered.append((pending, item))
        return answered

    def _ended(self, pending: Pending, freed: dict[TargetState, None]) -> None:
        lane = pending.lane
        if lane is not None:
            pending.lane = None
            lane.in_flight -= 1
            lane.holding = False
            if lane.held:
                self._pacing.release(lane)
            if lane.home is not None and lane.home.queue.length:
                freed[lane.home] = None

    def _take_load(self, load: TargetLoad, freed: dict[TargetState, None]) -> None:
        lane = self.lane(load.target)
        if self.draining:
            return
        changed, home = lane.update(load), lane.home
        if home is None:
            return
        if changed:
            self._sink.changed(home)
        if home.queue.length:
            freed[home] = None

    def _drain(self) -> None:
        log.info("worker draining", worker=self._worker)
        self.draining = True
        self.close_lanes()

    def close_lanes(self) -> None:
        """Lets no call be sent here until the worker tells its loads anew."""
        for lane in self._lanes.values():
            if lane.close() and lane.home is not None:
                self._sink.changed(lane.home)

    def suspend(self, error: MeshError) -> None:
        """Sends nothing more until the worker tells its loads anew. What another worker can do as well goes there, but
        no call twice: it may be what makes workers silent. The rest stays: the worker may yet come back."""
        self.close_lanes()
        moved = [
            pending
            for pending in self._in_flight.values()
            if pending.attempts <= 1 and pending.repeatable() and pending.target is not None and pending.target.live()
        ]
        for pending in moved:
            self.cancel(pending)
        self._sink.lost(moved, self._worker, error)

    def hand_back(self, error: MeshError) -> None:
        """The stream has ended: gives every call on it back to the dispatcher."""
        self.close_lanes()
        self.draining = False
        lost, self._in_flight, self._outbox = self._in_flight, {}, []
        self._pacing.clear()
        self._cancels.clear()
        self._probe = 0
        for lane in self._lanes.values():
            lane.in_flight, lane.holding = 0, False
        for pending in lost.values():
            pending.lane = None
        while self._suspected:
            self._sink.accused(self._worker, Suspicion(target=self._suspected.pop()))
        self._sink.lost(list(lost.values()), self._worker, error)

    def give_up(self) -> list[Pending]:
        """Takes out every call that is still under way; nothing will be sent any more."""
        self.close_lanes()
        left, self._in_flight = self._in_flight, {}
        for pending in left.values():
            pending.lane = None
        return list(left.values())
