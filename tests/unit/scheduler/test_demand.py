"""What gateways tell, summed up."""

from datetime import timedelta

from google.protobuf.duration_pb2 import Duration

from infermesh.scheduler.demand import LIFETIME, DemandBook, Load, Waiting
from infermesh.v1.scheduler_service_pb2 import DeploymentDemand, ReportDemandRequest, WorkerDemand


def waits(
    deployment: str = "d", calls: int = 1, *, wait: float = 0.0, unserved: bool = False, ended: int = 0
) -> DeploymentDemand:
    predicted = Duration()
    predicted.FromTimedelta(timedelta(seconds=wait))
    return DeploymentDemand(
        deployment=deployment,
        waiting_calls=calls,
        waiting_rows=calls,
        predicted_wait=predicted,
        unserved=unserved,
        ended=ended,
    )


def report(gateway: str, *deployments: DeploymentDemand, **loads: tuple[int, int]) -> ReportDemandRequest:
    workers = [WorkerDemand(worker=name, in_flight=calls, credit=credit) for name, (calls, credit) in loads.items()]
    return ReportDemandRequest(gateway=gateway, deployments=deployments, workers=workers)


def test_nothing_is_known_before_a_gateway_reports() -> None:
    assert not DemandBook().demand(0.0).known


def test_gateways_are_summed_up_and_the_longest_wait_counts() -> None:
    book = DemandBook()
    book.hear(report("a", waits(calls=3, wait=0.5), w=(4, 8)), 0.0)
    book.hear(report("b", waits(calls=2, wait=2.0), w=(2, 8)), 0.0)
    demand = book.demand(1.0)
    assert demand.known
    assert demand.waiting == {"d": Waiting(rows=5, calls=5, wait=2.0)}
    assert demand.loads == {"w": Load(in_flight=6, share=6 / 16)}


def test_a_report_replaces_the_last_of_its_gateway() -> None:
    book = DemandBook()
    book.hear(report("a", waits(calls=3), w=(4, 8)), 0.0)
    book.hear(report("a", v=(1, 2)), 1.0)
    demand = book.demand(1.0)
    assert demand.waiting == {}
    assert set(demand.loads) == {"v"}


def test_a_report_that_is_not_renewed_counts_no_longer() -> None:
    book = DemandBook()
    book.hear(report("a", waits()), 0.0)
    book.hear(report("b"), 3.0)
    assert book.demand(LIFETIME - 0.1).waiting
    assert not book.demand(LIFETIME).waiting
    assert book.demand(LIFETIME).known, "the other gateway still tells"
    assert not book.demand(3.0 + LIFETIME).known


def test_a_worker_that_takes_nothing_more_is_full_with_what_it_has() -> None:
    book = DemandBook()
    book.hear(report("a", w=(3, 0), idle=(0, 0)), 0.0)
    assert book.demand(0.0).loads == {"w": Load(3, 1.0), "idle": Load(0, 0.0)}


def test_more_calls_than_credit_are_no_more_than_one_worker() -> None:
    book = DemandBook()
    book.hear(report("a", w=(30, 10)), 0.0)
    assert book.demand(0.0).loads["w"].share == 1.0


def test_nonsense_counts_as_nothing() -> None:
    book = DemandBook()
    book.hear(report("a", waits(calls=-4), w=(-3, -9)), 0.0)
    demand = book.demand(0.0)
    assert demand.waiting == {}
    assert demand.loads == {"w": Load(0, 0.0)}


def test_the_rows_of_a_call_are_one_at_least() -> None:
    book = DemandBook()
    book.hear(report("a", DeploymentDemand(deployment="d", waiting_calls=4)), 0.0)
    assert book.demand(0.0).waiting["d"].rows == 4


def test_the_beginning_of_a_wait_without_worker_is_news_once() -> None:
    book = DemandBook()
    assert book.hear(report("a", waits(unserved=True)), 0.0)
    assert not book.hear(report("a", waits(calls=9, unserved=True)), 0.1)
    assert book.hear(report("a", waits(unserved=True), waits("e", unserved=True)), 0.2)
    assert not book.hear(report("a"), 0.3)
    assert book.hear(report("a", waits(unserved=True)), 0.4)


def test_short_calls_are_seen_by_their_number() -> None:
    book = DemandBook()
    book.hear(report("a", waits(calls=0, ended=7)), 0.0)
    assert book.demand(0.0).used == {}, "those may be long ago"
    book.hear(report("a", waits(calls=0, ended=7)), 1.0)
    assert book.demand(1.0).used == {}
    book.hear(report("a", waits(calls=0, ended=8)), 2.0)
    book.hear(report("a", waits(calls=0, ended=8), waits("e", calls=0, ended=1)), 3.0)
    assert book.demand(4.0).used == {"d": 2.0, "e": 3.0}


def test_what_waits_is_in_use() -> None:
    book = DemandBook()
    book.hear(report("a", waits(calls=1)), 0.0)
    assert book.demand(0.0).used == {"d": 0.0}


def test_what_was_used_long_ago_is_forgotten() -> None:
    book = DemandBook()
    book.hear(report("a", waits()), 0.0)
    assert book.demand(86_400.0).used
    assert not book.demand(86_401.0).used
