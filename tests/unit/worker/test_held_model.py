"""The life of calls in a held model: batched, answered, expired, cancelled, refused, lost."""

import asyncio
import struct
from math import inf
from typing import Any

import pytest

from infermesh.errors import DeadlineExceeded, Internal, InvalidInput, NotReady, Overloaded, RunnerDied, WorkerLost
from infermesh.mesh.clock import SystemClock
from infermesh.v1 import deployment_pb2
from infermesh.worker import models
from tests.unit.worker.worker_fakes import Clock, FakeRunner, call_of, held, turns, values_of, version_of


async def test_calls_of_one_turn_go_as_one_batch_and_each_gets_its_rows() -> None:
    clock = Clock()
    model, runner = held(clock), FakeRunner()
    model.attach(runner)
    answers = []
    for value in range(3):
        call, answer = call_of(model, clock.now, rows=value + 1, value=float(value))
        model.submit(call)
        answers.append(answer)
    await turns()
    assert [runner.rows(at) for at in range(len(runner.runs))] == [6]
    assert (model.in_flight, model.queued_rows) == (3, 0)
    clock.now += 0.004
    runner.answer(0)
    for value, answer in enumerate(answers):
        done = await answer
        assert values_of(done.response) == [float(value)] * (2 * (value + 1))
        assert done.error is None
    assert model.in_flight == 0


async def test_while_a_batch_runs_the_next_one_grows() -> None:
    clock = Clock()
    model = held(clock)
    runner = FakeRunner(times=((1, 0.5), (8, 0.5)))
    model.attach(runner)
    for _ in range(3):
        model.submit(call_of(model, clock.now)[0])
        await turns()
    assert len(runner.runs) == 1
    assert model.queued_rows == 2
    runner.answer(0)
    await turns()
    assert runner.rows(1) == 2


async def test_a_second_batch_waits_in_the_runner_only_if_runs_are_short_and_it_is_a_good_one() -> None:
    clock = Clock()
    model = held(clock)
    runner = FakeRunner(times=((1, 0.0001), (8, 0.0001)))
    model.attach(runner)
    for _ in range(8 * 3):
        model.submit(call_of(model, clock.now)[0])
    await turns()
    assert [runner.rows(at) for at in range(len(runner.runs))] == [8, 8]
    assert model.queued_rows == 8


async def test_a_bad_call_fails_alone() -> None:
    clock = Clock()
    model, runner = held(clock), FakeRunner()
    model.attach(runner)
    answers = [call_of(model, clock.now, value=float(value)) for value in range(3)]
    for call, _ in answers:
        model.submit(call)
    await turns()
    runner.fail(0, InvalidInput("one of them"))
    await turns()
    assert len(runner.runs) == 4, "each again, alone"
    runner.answer(1)
    runner.fail(2, InvalidInput("this one"))
    runner.answer(3)
    done = [await answer for _, answer in answers]
    assert [type(call.error) for call in done] == [type(None), InvalidInput, type(None)]
    assert values_of(done[2].response) == [2.0, 2.0]
    assert model.statistics.fail.count == 1


async def test_any_other_error_is_not_tried_again_and_is_told_to_every_call() -> None:
    clock = Clock()
    model, runner = held(clock), FakeRunner()
    model.attach(runner)
    answers = [call_of(model, clock.now) for _ in range(2)]
    for call, _ in answers:
        model.submit(call)
    await turns()
    runner.fail(0, RunnerDied("gone"))
    done = [await answer for _, answer in answers]
    assert [type(call.error) for call in done] == [RunnerDied, RunnerDied]
    assert not done[0].not_started, "nobody knows how far it came"
    assert len(runner.runs) == 1


async def test_an_answer_that_is_none_fails_its_calls_and_not_the_worker() -> None:
    clock = Clock()
    model, runner = held(clock), FakeRunner()
    model.attach(runner)
    call, answer = call_of(model, clock.now, rows=2)
    model.submit(call)
    await turns()
    result = runner.result(0)
    result.outputs[0].shape = (7, 2)
    runner.runs[0][2].set_result(result)
    assert isinstance((await answer).error, Internal)
    call, answer = call_of(model, clock.now)
    model.submit(call)
    await turns()
    runner.answer(1)
    assert (await answer).error is None


async def test_what_waits_expires_on_a_timer_and_never_reaches_the_runner() -> None:
    clock = SystemClock()
    model = held(clock)
    runner = FakeRunner(times=((1, 2.0),))
    model.attach(runner)
    running, _ = call_of(model, clock.time())
    waiting, answer = call_of(model, clock.time(), deadline=clock.time() + 0.01)
    model.submit(running)
    await turns()
    model.submit(waiting)
    done = await answer
    assert isinstance(done.error, DeadlineExceeded)
    assert done.not_started
    assert not running.done, "it is told while the other one still runs"
    assert len(runner.runs) == 1


async def test_what_can_not_be_in_time_is_refused_at_once_but_doubt_lets_one_try() -> None:
    clock = Clock()
    model = held(clock)
    runner = FakeRunner(times=((1, 1.0), (8, 1.0)), echo=True)
    model.attach(runner)
    refused = 0
    for _ in range(100):
        call, answer = call_of(model, clock.now, deadline=clock.now + 0.1)
        model.submit(call)
        if (await answer).error is None:
            break
        refused += 1
    assert 1 < refused < 50
    assert len(runner.runs) == 1


async def test_a_cancelled_call_leaves_the_queue_or_its_result_is_dropped() -> None:
    clock = Clock()
    model = held(clock)
    runner = FakeRunner(times=((1, 1.0),))
    model.attach(runner)
    (running, first), (waiting, second) = call_of(model, clock.now), call_of(model, clock.now)
    model.submit(running)
    await turns()
    model.submit(waiting)
    model.cancel(running)
    model.cancel(waiting)
    assert model.queued_rows == 0
    runner.answer(0)
    await turns()
    assert len(runner.runs) == 1
    assert not first.done()
    assert not second.done()
    await asyncio.wait_for(model.until_idle(), 1)


async def test_priority_overtakes() -> None:
    clock = Clock()
    model = held(clock, version_of(max_batch_size=1))
    runner = FakeRunner(times=((1, 1.0),))
    model.attach(runner)
    model.submit(call_of(model, clock.now)[0])
    await turns()
    model.submit(call_of(model, clock.now, value=1.0)[0])
    model.submit(call_of(model, clock.now, value=2.0)[0], priority=3)
    runner.answer(0)
    await turns()
    assert values_in(runner, 1) == [2.0, 2.0]


def values_in(runner: FakeRunner, at: int) -> list[float]:
    raw = b"".join(runner.runs[at][0][0].parts)
    return list(struct.unpack(f"<{len(raw) // 4}f", raw))


async def test_not_ready_and_overfull_are_said_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    model = held(clock)
    call, answer = call_of(model, clock.now)
    model.submit(call)
    done = await answer
    assert isinstance(done.error, NotReady)
    assert done.not_started
    monkeypatch.setattr(models, "_MOST_QUEUED", 1)
    model.attach(FakeRunner(times=((1, 1.0),)))
    model.submit(call_of(model, clock.now)[0])
    call, answer = call_of(model, clock.now)
    model.submit(call)
    done = await answer
    assert isinstance(done.error, Overloaded)
    assert done.error.retry_after


async def test_retire_finishes_what_is_here_and_takes_no_more() -> None:
    clock = Clock()
    changes: list[Any] = []
    model = held(clock, changed=changes.append)
    runner = FakeRunner(times=((1, 1.0),))
    model.attach(runner)
    answers = []
    for _ in range(2):
        call, answer = call_of(model, clock.now)
        model.submit(call)
        answers.append(answer)
        await turns()
    model.retire()
    assert changes == [model, model]
    assert (model.ready, model.credit) == (False, 0)
    call, answer = call_of(model, clock.now)
    model.submit(call)
    assert isinstance((await answer).error, NotReady)
    runner.answer(0)
    await turns()
    runner.answer(1)
    assert [(await answer).error for answer in answers] == [None, None]
    await asyncio.wait_for(model.until_idle(), 1)


async def test_detach_gives_back_what_waits_as_not_started_and_a_new_runner_goes_on() -> None:
    clock = Clock()
    model = held(clock)
    runner = FakeRunner(times=((1, 1.0),))
    model.attach(runner)
    model.submit(call_of(model, clock.now)[0])
    await turns()
    call, answer = call_of(model, clock.now)
    model.submit(call)
    model.detach(WorkerLost("died"))
    runner.fail(0, WorkerLost("died"))
    done = await answer
    assert isinstance(done.error, WorkerLost)
    assert done.not_started
    await asyncio.wait_for(model.until_idle(), 1)
    model.attach(FakeRunner(echo=True))
    call, answer = call_of(model, clock.now)
    model.submit(call)
    assert (await answer).error is None


async def test_a_fault_of_ours_leaves_no_caller_without_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    model, runner = held(clock), FakeRunner()
    model.attach(runner)
    call, answer = call_of(model, clock.now)
    model.submit(call)
    await turns()

    def broken(*args: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(model._executor.time, "observe", broken)
    runner.answer(0)
    assert isinstance((await answer).error, RuntimeError)
    await asyncio.wait_for(model.until_idle(), 1)


async def test_nothing_more_is_given_to_a_runner_that_died() -> None:
    clock = Clock()
    model = held(clock)
    runner = FakeRunner(times=((1, 1.0),))
    model.attach(runner)
    model.submit(call_of(model, clock.now)[0])
    await turns()
    call, answer = call_of(model, clock.now)
    model.submit(call)
    runner.fail(0, WorkerLost("died"))
    await turns()
    assert len(runner.runs) == 1
    assert not answer.done()
    model.detach(WorkerLost("died"))
    assert (await answer).not_started


@pytest.mark.parametrize(
    ("times", "limit", "credit"),
    [
        (((1, 0.001), (8, 0.001)), 8, 16),  # two batches of eight calls
        (((1, 0.001), (8, 0.008)), 8, 2),  # batches gain nothing
        (((1, 2.0),), 0, 2),  # slow, no batches: late binding above all
        (((1, 0.0001),), 0, 16),  # quick, no batches: hide the way there and back
    ],
)
async def test_credit_is_about_two_best_batches(times: tuple[tuple[int, float], ...], limit: int, credit: int) -> None:
    model = held(Clock(), version_of(max_batch_size=limit))
    assert model.credit == 0
    model.attach(FakeRunner(times=times))
    assert model.credit == credit


async def test_credit_counts_calls_and_a_call_may_have_many_rows() -> None:
    clock = Clock()
    model = held(clock)
    model.attach(FakeRunner(times=((1, 0.010), (8, 0.010))))
    assert model.credit == 16
    for _ in range(100):
        model.submit(call_of(model, clock.now, rows=8)[0])
    assert model.credit == 2


async def test_batching_of_the_deployment_limits_the_rows() -> None:
    clock = Clock()
    model = held(clock)
    model.set_batching(deployment_pb2.Batching(max_batch_size=2))
    runner = FakeRunner(times=((1, 1.0), (8, 1.0)))
    model.attach(runner)
    for _ in range(5):
        model.submit(call_of(model, clock.now)[0])
    await turns()
    assert runner.rows(0) == 2
    model.set_batching(deployment_pb2.Batching(max_batch_size=100))
    runner.answer(0)
    await turns()
    assert runner.rows(1) == 3, "never above the version's own limit, and no longer below it"


async def test_max_delay_holds_a_small_batch_back() -> None:
    clock = SystemClock()
    model = held(clock)
    batching = deployment_pb2.Batching()
    batching.max_delay.FromMilliseconds(20)
    model.set_batching(batching)
    runner = FakeRunner(echo=True)
    model.attach(runner)
    call, answer = call_of(model, clock.time())
    model.submit(call)
    await turns()
    assert not runner.runs
    model.submit(call_of(model, clock.time())[0])
    assert (await answer).error is None
    assert runner.rows(0) == 2


async def test_a_runner_that_can_not_even_be_asked_fails_the_call() -> None:
    clock = Clock()
    model, runner = held(clock), FakeRunner()
    runner.run = None  # type: ignore[assignment, method-assign]
    model.attach(runner)
    call, answer = call_of(model, clock.now, deadline=inf)
    model.submit(call)
    assert isinstance((await answer).error, TypeError)


async def test_statistics_count_as_triton_does() -> None:
    clock = Clock()
    model, runner = held(clock), FakeRunner(echo=True)
    model.attach(runner)
    answers = []
    for rows in (1, 2):
        call, answer = call_of(model, clock.now, rows=rows)
        clock.now += 0.001
        model.submit(call)
        answers.append(answer)
    await asyncio.gather(*answers)
    model.refused(InvalidInput("bad"))
    stats = model.statistics.message("d", "1")
    phases = stats.inference_stats
    assert (stats.inference_count, stats.execution_count) == (3, 1)
    assert phases.success.count == phases.queue.count == 2
    assert phases.compute_input.count == phases.compute_infer.count == phases.compute_output.count == 2
    assert phases.compute_infer.ns == 2 * 10_000
    assert phases.queue.ns == 3_000_000
    assert phases.fail.count == 1
    assert [(batch.batch_size, batch.compute_infer.count) for batch in stats.batch_stats] == [(3, 1)]
    assert stats.last_inference > 0
