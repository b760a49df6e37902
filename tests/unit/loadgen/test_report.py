"""What is shown of a run, and the clock and the libraries behind it."""

import asyncio
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from infermesh.loadgen.arrivals import Arrivals
from infermesh.loadgen.extras import MissingExtra, library
from infermesh.loadgen.plan import Plan
from infermesh.loadgen.plot import draw
from infermesh.loadgen.recording import MOST_INTERVALS, OK, Recording
from infermesh.loadgen.report import report, to_csv
from infermesh.loadgen.timer import PreciseClock

PLAN = Plan("nowhere", [b""], rate=10, duration=10, slo=0.05)


@pytest.fixture
def recording() -> Recording:
    """A hundred calls, ten a second: 5 ms each, but 200 ms in the fourth second, where every second one failed."""
    filled = Recording.of(PLAN.duration, PLAN.slo)
    for number in range(100):
        due, slow = number / 10, 30 <= number < 40
        filled.sent(0.0001)
        filled.ended(due, 0.2 if slow else 0.005, "UNAVAILABLE NOT_READY" if slow and number % 2 else OK)
    filled.elapsed, filled.cpu = 9.91, 2.0
    return filled


def test_figures(recording: Recording) -> None:
    figures = report(PLAN, recording)

    assert (figures.calls, figures.seconds) == (100, 10)
    assert (figures.offered, figures.answered, figures.goodput) == (10.0, 9.5, 9.0)
    assert figures.good_share == 0.9
    assert figures.failed == {"UNAVAILABLE NOT_READY": 5}
    assert figures.latency_ms["p50"] == pytest.approx(5, rel=0.001)
    assert figures.latency_ms["max"] == pytest.approx(200, rel=0.001)
    assert figures.delay_ms["p99"] == pytest.approx(0.1, rel=0.01)
    assert figures.client_cores == 0.2
    assert figures.to_dict()["good_share"] == 0.9


def test_a_run_that_outlasts_its_duration_answers_at_the_lower_rate(recording: Recording) -> None:
    recording.elapsed = 19.0

    figures = report(PLAN, recording)
    assert (figures.offered, figures.answered) == (10.0, 5.0)
    assert report(replace(PLAN, arrivals=Arrivals.closed), recording).offered == pytest.approx(100 / 19)


def test_a_run_without_a_call() -> None:
    figures = report(PLAN, Recording.of(PLAN.duration, PLAN.slo))

    assert (figures.calls, figures.offered, figures.good_share, figures.mean_ms) == (0, 0, 0, 0)
    assert set(figures.latency_ms.values()) == {0.0}


def test_a_line_for_each_second(recording: Recording) -> None:
    lines = to_csv(recording).splitlines()

    assert lines[0] == "second,due,ok,failed,good,p50_ms,p90_ms,p99_ms,p99.9_ms,max_ms"
    assert [line.split(",")[:5] for line in lines[3:6]] == [
        ["2", "10", "10", "0", "10"],
        ["3", "10", "5", "5", "0"],
        ["4", "10", "10", "0", "10"],
    ]
    assert float(lines[4].split(",")[5]) == pytest.approx(200, rel=0.001)


def test_a_long_run_has_longer_intervals() -> None:
    recording = Recording.of(3_600, 0.1)
    recording.ended(3_599.9, 0.01, OK)

    assert recording.seconds * MOST_INTERVALS == 3_600
    assert max(recording.intervals) == MOST_INTERVALS - 1


def test_latencies_beyond_the_histogram_are_kept_at_its_end(recording: Recording) -> None:
    recording.ended(0.0, 1e9, OK)
    recording.ended(0.0, -1.0, OK)

    assert recording.latencies().get_max_value() == pytest.approx(3.6e9, rel=0.001)


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_a_picture(recording: Recording, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"run{suffix}"

    draw(report(PLAN, recording), recording, path)

    assert path.read_bytes().startswith(b"\x89PNG" if suffix == ".png" else b"<?xml")


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "matplotlib.figure", raising=False)

    with pytest.raises(MissingExtra, match=r"matplotlib is not installed.*pip install 'infermesh\[bench\]'") as caught:
        library("matplotlib.figure")
    assert caught.value.metadata == {"library": "matplotlib", "extra": "bench"}


async def test_the_clock_wakes_in_time_and_can_be_cancelled() -> None:
    clock = PreciseClock()
    began = time.monotonic()
    await clock.sleep(0.002)
    assert time.monotonic() - began >= 0.002

    sleeper = asyncio.create_task(clock.sleep(60))
    await asyncio.sleep(0)
    sleeper.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sleeper
    await clock.sleep(-1)
    await clock.sleep(0.001)
    clock.close()
    clock.close()
