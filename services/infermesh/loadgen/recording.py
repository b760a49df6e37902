"""What became of calls, in memory that does not grow with their number: an HDR histogram for each stretch of time."""

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from infermesh.loadgen.extras import library

OK: Final = "OK"
MOST_INTERVALS: Final = 120
_HIGHEST: Final = 3_600_000_000  # microseconds: an hour
_DIGITS: Final = 3


def histogram() -> Any:
    """Returns an empty HDR histogram of microseconds, exact to a thousandth. Raises MissingExtra."""
    return library("hdrh.histogram").HdrHistogram(1, _HIGHEST, _DIGITS)


@dataclass
class Interval:
    """The calls that were due in one stretch of time: answered in time for the SLO, and how each ended."""

    good: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    latencies: Any = field(default_factory=histogram)


class Recording:
    """Counts calls by when they were due. `seconds` is the length of an interval; `slo` in seconds makes a good call.

    Latencies are those of answered calls; failed ones are counted by their code and reason.
    """

    def __init__(self, seconds: float, slo: float) -> None:
        self.seconds = seconds
        self.slo = slo
        self.intervals: dict[int, Interval] = {}
        self.delays = histogram()
        """How long after it was due each call was sent, in microseconds: what the load's own side adds."""
        self.elapsed = 0.0
        self.cpu = 0.0
        """Seconds of CPU that the load's own side used."""

    @classmethod
    def of(cls, duration: float, slo: float) -> "Recording":
        """Returns an empty one for a run of `duration` seconds."""
        return cls(max(1.0, math.ceil(duration / MOST_INTERVALS)), slo)

    def sent(self, delay: float) -> None:
        """Counts a call that was sent `delay` seconds after it was due."""
        self.delays.record_value(_micros(delay))

    def ended(self, due: float, latency: float, end: str) -> None:
        """Counts the end of a call, `due` seconds after the start; `end` is OK, or code and reason of the failure."""
        number = int(due // self.seconds)
        interval = self.intervals.get(number)
        if interval is None:
            interval = self.intervals[number] = Interval()
        interval.ends[end] += 1
        if end == OK:
            interval.latencies.record_value(_micros(latency))
            interval.good += latency <= self.slo

    def add(self, other: "Recording") -> None:
        """Adds what another process has recorded in the same run."""
        for number, theirs in other.intervals.items():
            ours = self.intervals.setdefault(number, Interval())
            ours.good += theirs.good
            ours.ends.update(theirs.ends)
            ours.latencies.add(theirs.latencies)
        self.delays.add(other.delays)
        self.elapsed = max(self.elapsed, other.elapsed)
        self.cpu += other.cpu

    def latencies(self) -> Any:
        """Returns one histogram of all answered calls, in microseconds."""
        total = histogram()
        for interval in self.intervals.values():
            total.add(interval.latencies)
        return total

    def ends(self) -> Counter[str]:
        """Returns how many calls ended in which way."""
        return sum((interval.ends for interval in self.intervals.values()), Counter())

    def good(self) -> int:
        """Returns how many calls were answered within the SLO."""
        return sum(interval.good for interval in self.intervals.values())

    def to_json(self) -> str:
        """Returns all of it as one line of text, for another process."""
        intervals = {
            str(number): {"good": item.good, "ends": item.ends, "latencies": _text(item.latencies)}
            for number, item in self.intervals.items()
        }
        fields = ("seconds", "slo", "elapsed", "cpu")
        return json.dumps(
            {**{name: getattr(self, name) for name in fields}, "intervals": intervals, "delays": _text(self.delays)}
        )

    @classmethod
    def from_json(cls, text: str) -> "Recording":
        """Returns the recording of `to_json`."""
        fields = json.loads(text)
        result = cls(fields["seconds"], fields["slo"])
        result.elapsed, result.cpu = fields["elapsed"], fields["cpu"]
        result.delays.decode_and_add(fields["delays"].encode())
        for number, item in fields["intervals"].items():
            interval = result.intervals[int(number)] = Interval(item["good"], Counter(item["ends"]))
            interval.latencies.decode_and_add(item["latencies"].encode())
        return result


def _text(latencies: Any) -> str:
    encoded: bytes = latencies.encode()
    return encoded.decode()


def percentiles(latencies: Any, shares: Sequence[float]) -> list[float]:
    """Returns the latencies in seconds that these percentages of the calls stay within; 0 without any call."""
    if not latencies.get_total_count():
        return [0.0 for _ in shares]
    return [latencies.get_value_at_percentile(share) / 1e6 for share in shares]


def _micros(seconds: float) -> int:
    return min(_HIGHEST, max(1, round(seconds * 1e6)))
