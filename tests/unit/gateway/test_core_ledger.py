"""What one stream carries: every answer to its own call, and every place given back. No event loop turns are needed."""

import asyncio
from typing import Any

import pytest

from infermesh.errors import NotReady, WorkerLost
from infermesh.gateway.admission import Limits
from infermesh.gateway.calls import Call
from infermesh.gateway.ledger import Ledger
from infermesh.gateway.liveness import Liveness
from infermesh.gateway.pending import Pending
from infermesh.gateway.retries import Retries
from infermesh.mesh.status import to_status
from infermesh.v1.worker_service_pb2 import ResultBundle, ResultItem, TargetLoad, WorkItem


class Nobody:
    """Takes what a call or a ledger has to tell, and remembers what came back."""

    def __init__(self) -> None:
        self.back: list[Pending] = []

    def returned(self, pending: Pending, worker: str, error: Exception, not_started: bool) -> None:
        self.back.append(pending)

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


class Carried:
    """A ledger with calls on their way."""

    def __init__(self, calls: int) -> None:
        self.sink = Nobody()
        self.ledger = Ledger("w", self.sink, 1 << 20, lambda: None)
        self.lane = self.ledger.lane("d/1")
        self.calls = [self.call(b"%d" % number) for number in range(calls)]
        self.ledger.receive(ResultBundle(loads=[TargetLoad(target="d/1", credit=8)]))
        for pending in self.calls:
            self.ledger.send(self.lane, pending)
        self.sent = list(self.ledger.take().bundle.items)

    def call(self, payload: bytes) -> Pending:
        return Pending(Call("d", "", payload), Nobody(), 1, asyncio.get_running_loop())  # type: ignore[arg-type]


async def test_answers_find_their_calls_in_any_order() -> None:
    carried = Carried(3)
    first, second, third = carried.sent
    carried.ledger.receive(
        ResultBundle(
            results=[
                ResultItem(id=third.id, payload=b"c", final=True),
                ResultItem(id=first.id, payload=b"a", final=True),
                ResultItem(id=second.id, payload=b"b", final=True),
            ]
        )
    )
    assert [pending.result() for pending in carried.calls] == [b"a", b"b", b"c"]


async def test_an_answered_call_gives_its_place_back() -> None:
    carried = Carried(2)
    assert carried.lane.in_flight == 2
    carried.ledger.receive(ResultBundle(results=[ResultItem(id=carried.sent[0].id, payload=b"a", final=True)]))
    assert (carried.lane.in_flight, len(carried.ledger)) == (1, 1)


async def test_a_call_that_comes_back_gives_its_place_back() -> None:
    carried = Carried(1)
    failed = ResultItem(id=carried.sent[0].id, error=to_status(NotReady("later")), final=True)
    carried.ledger.receive(ResultBundle(results=[failed]))
    assert (carried.lane.in_flight, carried.sink.back) == (0, carried.calls)


async def test_a_cancelled_call_gives_its_place_back_and_the_worker_is_told() -> None:
    carried = Carried(2)
    carried.ledger.cancel(carried.calls[0])
    assert carried.lane.in_flight == 1
    (told,) = carried.ledger.take().bundle.items
    assert (told.id, told.kind) == (carried.sent[0].id, WorkItem.CANCEL)


async def test_a_call_is_sent_so_often_and_no_more() -> None:
    retries = Retries(Limits(max_attempts=3), now=0.0)
    pending = Carried(1).calls[0]
    allowed = []
    for attempts in (1, 2, 3, 4):
        pending.attempts = attempts
        allowed.append(retries.allowed(pending, WorkerLost("gone"), False, 0.0))
    assert allowed == [True, True, False, False]


@pytest.mark.parametrize("answers", [True, False])
async def test_a_worker_that_answers_no_probe_is_suspended(answers: bool) -> None:
    suspended = asyncio.Event()

    class Line(Nobody):
        unheard = 0

        def __len__(self) -> int:
            return 1

        def ask(self, number: int) -> None:
            liveness.heard = answers

        def suspend(self, error: WorkerLost) -> None:
            suspended.set()

    liveness = Liveness("w", Line(), silence=0.001, timeout=0.02)
    watching = asyncio.create_task(liveness.watch())
    try:
        async with asyncio.timeout(0.1 if answers else 2):
            await suspended.wait()
    except TimeoutError:
        pass
    watching.cancel()
    assert suspended.is_set() is not answers
