"""The small parts of the dispatcher: queue, deadlines, retry budget, admission, counters."""

import asyncio
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from infermesh.errors import ConfigError, DeadlineExceeded, InvalidInput
from infermesh.gateway.admission import Limits, check
from infermesh.gateway.calls import Call
from infermesh.gateway.config import GatewayConfig
from infermesh.gateway.deadlines import Deadlines
from infermesh.gateway.pending import Pending
from infermesh.gateway.queueing import CallQueue, Tally
from infermesh.gateway.retries import RetryBudget
from infermesh.gateway.stats import GatewayMetrics, TargetStats
from infermesh.mesh.config import load
from tests.unit.gateway.virtual import run


class Nobody:
    """Owns calls that go nowhere."""

    def withdraw(self, pending: Pending) -> None: ...

    def ended(self, pending: Pending, code: str, queue_us: int, compute_us: int) -> None: ...


def waiting(loop: asyncio.AbstractEventLoop, arrival: int, **fields: float) -> Pending:
    return Pending(Call("d", "", b"abc", **fields), Nobody(), arrival, loop)  # type: ignore[arg-type]


orders = st.lists(
    st.tuples(st.integers(-2, 2), st.one_of(st.none(), st.integers(1, 5)), st.booleans()), min_size=1, max_size=80
)


@given(orders)
def test_the_queue_is_ordered_by_priority_deadline_and_arrival(calls: list[tuple[int, int | None, bool]]) -> None:
    async def scenario() -> None:
        loop, tally = asyncio.get_running_loop(), Tally()
        queue = CallQueue(tally)
        made = [waiting(loop, n, priority=p, deadline=d) for n, (p, d, _) in enumerate(calls)]  # type: ignore[arg-type]
        for pending in made:
            queue.push(pending)
        for pending, (_, _, removed) in zip(made, calls, strict=True):
            if removed:
                queue.remove(pending)

        left = [queue.pop() for _ in range(len(queue))]

        expected = [p for p, (_, _, removed) in zip(made, calls, strict=True) if not removed]
        expected.sort(key=lambda p: (-p.call.priority, p.call.deadline or float("inf"), p.arrival))
        assert left == expected
        assert tally.bytes == 0

    run(scenario())


def test_what_was_removed_does_not_pile_up_in_the_queue() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        queue = CallQueue(Tally())
        for number in range(10_000):
            pending = waiting(loop, number)
            queue.push(pending)
            queue.remove(pending)

        assert len(queue) == 0
        assert len(queue._heap) < 100

    run(scenario())


@given(st.lists(st.tuples(st.floats(0, 3), st.booleans()), max_size=30))
def test_deadlines_expire_exactly_and_never_after_they_were_discarded(plan: list[tuple[float, bool]]) -> None:
    async def scenario() -> None:
        loop, expired = asyncio.get_running_loop(), {}
        deadlines: Deadlines[Pending] = Deadlines(loop, lambda item: expired.__setitem__(item, loop.time()))
        start = loop.time()
        items = [(waiting(loop, n), start + after, discarded) for n, (after, discarded) in enumerate(plan)]
        for item, deadline, _ in items:
            deadlines.add(item, deadline)
        for item, _, discarded in items:
            if discarded:
                deadlines.discard(item)
        await asyncio.sleep(4)

        assert set(expired) == {item for item, _, discarded in items if not discarded}
        for item, deadline, discarded in items:
            if not discarded:
                assert expired[item] == pytest.approx(deadline, abs=1e-6)

    run(scenario())


def test_a_deadline_may_be_discarded_after_its_quarter_has_begun() -> None:
    async def scenario() -> None:
        loop, expired = asyncio.get_running_loop(), []
        deadlines: Deadlines[Pending] = Deadlines(loop, expired.append)
        item = waiting(loop, 1)
        deadlines.add(item, loop.time() + 1.2)
        await asyncio.sleep(1.1)

        deadlines.discard(item)
        await asyncio.sleep(1)

        assert expired == []

    run(scenario())


@given(st.lists(st.booleans(), max_size=2_000))
def test_retries_never_exceed_share_floor_and_burst(events: list[bool]) -> None:
    budget, calls, retries, now = RetryBudget(0.1, 2.0, 5, 0.0), 0, 0, 0.0
    for is_call in events:
        now += 0.01
        if is_call:
            budget.earn()
            calls += 1
        else:
            retries += budget.spend(now)

    assert retries <= 5 + 0.1 * calls + 2.0 * now + 1e-6


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 60)), max_size=60))
def test_an_event_is_covered_as_a_whole_or_not_at_all_and_paid_back(events: list[tuple[int, int]]) -> None:
    budget, calls, retries, largest, now = RetryBudget(0.1, 2.0, 5, 0.0), 0, 0, 0, 0.0
    for new_calls, handed_back in events:
        now += 0.1
        for _ in range(new_calls):
            budget.earn()
        with budget.one_event(now):
            granted = sum(budget.spend(now) for _ in range(handed_back))
        assert granted in (0, handed_back)
        calls, retries, largest = calls + new_calls, retries + granted, max(largest, handed_back)

    assert retries <= 5 + 0.1 * calls + 2.0 * now + largest + 1e-6


def test_a_quiet_gateway_may_always_retry() -> None:
    budget = RetryBudget(0.1, 2.0, 1, 0.0)

    assert all(budget.spend(now) for now in (1.0, 2.0, 3.0))
    assert not budget.spend(3.1)


def test_admission_lets_a_good_call_pass() -> None:
    assert check(Call("d", "", b"x" * 10, deadline=5.0), Limits(max_payload=10), now=4.0) is None


def test_admission_refuses_what_is_too_late_or_too_large() -> None:
    assert isinstance(check(Call("d", "", b"", deadline=5.0), Limits(), now=5.0), DeadlineExceeded)
    refusal = check(Call("d", "", b"x" * 11), Limits(max_payload=10), now=0.0)
    assert isinstance(refusal, InvalidInput)
    assert refusal.metadata == {"limit": "10", "size": "11"}


@pytest.mark.parametrize("field", ["max_queue", "max_attempts", "bundle_bytes", "silence", "retry_reserve"])
def test_limits_that_would_stop_everything_are_refused_at_the_start(field: str) -> None:
    with pytest.raises(ConfigError, match=f"limits.{field}"):
        load(GatewayConfig, [f"--limits-{field.replace('_', '-')}", "0"], {}, room="gateway")


def test_limits_are_settings_of_the_gateway() -> None:
    environ = {"INFERMESH_GATEWAY_LIMITS_MAX_WAITING_BYTES": "1000"}
    config = load(GatewayConfig, ["--limits-retry-budget", "0.2"], environ, room="gateway")

    assert config.limits == Limits(retry_budget=0.2, max_waiting_bytes=1000)


def test_metrics_are_histograms_and_counters_by_model_version_and_code() -> None:
    registry, stats = CollectorRegistry(), TargetStats("digits", "2")
    GatewayMetrics(registry, lambda: [stats], list)
    rng = Random(1)
    for _ in range(100):
        stats.ok.add(rng.uniform(0.002, 0.004))
    stats.fail("UNAVAILABLE", 7.0)
    stats.retries += 3

    text = generate_latest(registry).decode()

    assert 'infermesh_inference_requests_total{code="OK",model="digits",version="2"} 100.0' in text
    assert 'infermesh_inference_seconds_bucket{code="OK",le="0.001",model="digits",version="2"} 0.0' in text
    assert 'infermesh_inference_seconds_bucket{code="OK",le="0.005",model="digits",version="2"} 100.0' in text
    assert 'infermesh_inference_seconds_count{code="OK",model="digits",version="2"} 100.0' in text
    assert 'infermesh_inference_seconds_sum{code="UNAVAILABLE",model="digits",version="2"} 7.0' in text
    assert 'infermesh_inference_retries_total{model="digits",version="2"} 3.0' in text
