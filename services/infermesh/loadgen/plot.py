"""A picture of a load test: latency by percentile, and over the time of the run."""

from pathlib import Path
from typing import Any, Final

from infermesh.loadgen.extras import library
from infermesh.loadgen.recording import OK, Recording, percentiles
from infermesh.loadgen.report import Report

_DISTRIBUTION: Final = (50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.95, 99.99, 99.999)
_LINES: Final = (50.0, 90.0, 99.0, 99.9)


def draw(figures: Report, recording: Recording, path: Path) -> None:
    """Writes a picture, in the format of the suffix: .png, .svg, .pdf. Raises MissingExtra, OSError, ValueError."""
    figure = library("matplotlib.figure").Figure(figsize=(11, 4.5), layout="constrained")
    by_share, over_time = figure.subplots(1, 2)
    _distribution(by_share, recording, figures.slo_ms)
    _history(over_time, recording, figures.slo_ms)
    figure.suptitle(
        f"{figures.arrivals} arrivals: {figures.offered:.0f}/s offered, {figures.answered:.0f}/s answered, "
        f"{100 * figures.good_share:.2f} % within {figures.slo_ms:g} ms"
    )
    figure.savefig(path, dpi=120)


def _distribution(axes: Any, recording: Recording, slo_ms: float) -> None:
    """Latency by percentile; the axis is stretched so that each further nine has the same width."""
    latencies = recording.latencies()
    values = [value * 1e3 for value in percentiles(latencies, _DISTRIBUTION)]
    axes.plot([100 / (100 - share) for share in _DISTRIBUTION], values, marker=".")
    axes.set_xscale("log")
    _milliseconds(axes, slo_ms)
    axes.set_xticks([2, 10, 100, 1_000, 10_000, 100_000], ["50 %", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %"])
    axes.set(title="latency from when a call was due", xlabel="share of the answered calls")


def _history(axes: Any, recording: Recording, slo_ms: float) -> None:
    """Percentiles of each interval, and what failed in it."""
    numbers = sorted(recording.intervals)
    seconds = [(number + 0.5) * recording.seconds for number in numbers]
    items = [recording.intervals[number] for number in numbers]
    rows = [percentiles(item.latencies, _LINES) for item in items]
    for place, share in enumerate(_LINES):
        axes.plot(seconds, [row[place] * 1e3 for row in rows], label=f"p{share:g}")
    _milliseconds(axes, slo_ms)
    axes.set(title="over time", xlabel="seconds")
    failed = [(item.ends.total() - item.ends[OK]) / recording.seconds for item in items]
    if any(failed):
        right = axes.twinx()
        right.fill_between(seconds, failed, alpha=0.2, color="red")
        right.set_ylabel("failed calls/s", color="red")
    axes.legend(loc="upper left")


def _milliseconds(axes: Any, slo_ms: float) -> None:
    """Makes the vertical axis one of milliseconds, in plain numbers, with a line at the SLO."""
    axes.set_yscale("log")
    plain = library("matplotlib.ticker").LogFormatter(minor_thresholds=(2, 0.5))
    axes.yaxis.set_major_formatter(plain)
    axes.yaxis.set_minor_formatter(plain)
    axes.set_ylabel("ms")
    axes.grid(alpha=0.3)
    axes.axhline(slo_ms, color="grey", linestyle="--", linewidth=1)
