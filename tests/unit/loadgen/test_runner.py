"""Runs of a plan in virtual time: what is sent when, and that nothing a user would have waited for goes missing."""

from collections import Counter
from dataclasses import replace

import pytest

from infermesh.loadgen.arrivals import Arrivals
from infermesh.loadgen.plan import Plan
from infermesh.loadgen.recording import OK, Recording, percentiles
from infermesh.loadgen.report import report
from infermesh.loadgen.runner import LATE
from tests.unit.loadgen.parts import Server, run

PLAN = Plan("nowhere", [b""], rate=200, duration=20, slo=0.05, seed=5)


def stalled(now: float) -> float:
    """A server that answers within 2 ms, but not at all in the twelfth second."""
    return 0.002 + max(0.0, 12.0 - now if now >= 11.0 else 0.0)


def quantile(recording: Recording, share: float) -> float:
    return percentiles(recording.latencies(), [share])[0]


def test_calls_are_sent_when_they_are_due() -> None:
    server = Server(lambda now: 0.003)
    recording = run(PLAN, server)

    assert [came for _, came, _ in server.came] == pytest.approx(PLAN.due() + 1.0)
    assert recording.ends() == {OK: len(PLAN.due())}
    assert quantile(recording, 50) == pytest.approx(0.003, rel=0.01)
    assert percentiles(recording.delays, [100])[0] < 1e-5
    assert recording.elapsed == pytest.approx(PLAN.due()[-1] + 0.003)


@pytest.mark.parametrize("in_flight", [1_000, 1])
def test_a_server_that_stands_still_for_a_second_shows_in_the_percentiles(in_flight: int) -> None:
    """Of 20 s, each call due in the one second waits until its end: 5 % of all calls, half a second on average."""
    recording = run(replace(PLAN, in_flight=in_flight), Server(stalled))

    assert quantile(recording, 90) < 0.1
    assert quantile(recording, 97.5) == pytest.approx(0.6, abs=0.3)
    assert quantile(recording, 99.9) == pytest.approx(1.0, abs=0.1)
    figures = report(PLAN, recording)
    assert figures.good_share < 0.96
    assert figures.calls == len(PLAN.due())


def test_a_closed_loop_hides_the_same_second() -> None:
    """What the open loop is for: to one caller that waits, the same server looks well at the 99.9th percentile."""
    recording = run(replace(PLAN, arrivals=Arrivals.closed, in_flight=1, duration=15), Server(stalled))

    assert quantile(recording, 99.9) < 0.01
    assert quantile(recording, 100) == pytest.approx(1.0, rel=0.01)


def test_no_more_calls_are_under_way_than_allowed_and_the_wait_counts() -> None:
    server = Server(lambda now: 0.04)  # eight at once answer 200 a second, and arrivals vary
    recording = run(replace(PLAN, in_flight=8), server)

    assert server.most == 8
    assert quantile(recording, 100) == pytest.approx(0.04 + percentiles(recording.delays, [100])[0], abs=0.001)
    assert percentiles(recording.delays, [50])[0] > 0.01


def test_deadlines_count_from_when_a_call_was_due_and_one_that_is_over_is_not_sent() -> None:
    server = Server(lambda now: 0.5)
    plan = replace(PLAN, rate=10, duration=5, in_flight=1, timeout=1.0)
    recording = run(plan, server)

    due = plan.due()
    assert all(timeout == pytest.approx(1.0 - (came - 1.0 - due[n]), abs=1e-6) for n, came, timeout in server.came)
    assert recording.ends()[LATE] == len(due) - len(server.came) > 0
    assert recording.ends().total() == len(due)


def test_failures_are_counted_by_their_end_and_do_not_make_latencies_look_better() -> None:
    ends = Counter({"UNAVAILABLE WORKER_LOST": 0})
    server = Server(lambda now: 0.01, lambda n: "UNAVAILABLE WORKER_LOST" if n % 4 == 0 else OK)
    recording = run(PLAN, server)

    calls = len(PLAN.due())
    ends["UNAVAILABLE WORKER_LOST"], ends[OK] = -(-calls // 4), calls - -(-calls // 4)
    assert recording.ends() == ends
    assert recording.latencies().get_total_count() == ends[OK] == recording.good()


def test_a_closed_loop_keeps_its_callers_busy() -> None:
    server = Server(lambda now: 0.02)
    recording = run(replace(PLAN, arrivals=Arrivals.closed, in_flight=4, duration=1.99), server)

    assert server.most == 4
    assert recording.ends()[OK] == 4 * 100
    assert sorted(number for number, _, _ in server.came) == list(range(400))


def test_shares_of_a_plan_send_each_call_once() -> None:
    plan = replace(PLAN, in_flight=10, connections=2)
    shares = plan.split(3)

    assert [share.in_flight for share in shares] == [4, 3, 3]
    assert [share.connections for share in shares] == [1, 1, 1]
    assert sorted(due for share in shares for due in share.due()) == list(plan.due())
    assert len(replace(plan, in_flight=2).split(5)) == 2


def test_recordings_of_shares_add_up() -> None:
    whole = run(PLAN, Server(lambda now: 0.01))
    parts = [run(share, Server(lambda now: 0.01)) for share in PLAN.split(3)]
    total = Recording.of(PLAN.duration, PLAN.slo)
    for part in parts:
        total.add(Recording.from_json(part.to_json()))

    assert total.ends() == whole.ends()
    assert total.good() == whole.good()
    assert total.elapsed == whole.elapsed
    assert sorted(total.intervals) == sorted(whole.intervals) == list(range(20))
    assert quantile(total, 99) == quantile(whole, 99)


def test_a_plan_survives_the_way_to_another_process() -> None:
    plan = replace(PLAN, messages=[b"\x00\xff", b""], arrivals=Arrivals.bursty)

    assert Plan.from_json(plan.to_json()) == plan
    assert "\n" not in plan.to_json()
