"""What happened in a simulation, event by event: outcomes, wasted work, and a digest that two equal runs share."""

import hashlib
import struct
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from math import inf

from infermesh.simulation.arrivals import Request


class Outcome(IntEnum):
    """How a request ended."""

    good = 0
    """Answered within its deadline."""
    late = 1
    """Answered after its deadline."""
    refused = 2
    """Told before its deadline that there will be no answer."""
    expired = 3
    """Told so only when its deadline had passed."""
    failed = 4
    """Ended with another error."""


@dataclass(slots=True)
class WorkerRecord:
    """What one worker did. Times are in seconds."""

    busy: float = 0.0
    batches: int = 0
    rows: int = 0
    wasted: float = 0.0
    """Time on rows that were too late when their batch began, by the curve."""
    hopeless: int = 0
    """Rows that were too late when their batch began."""
    overrun: int = 0
    """Rows whose batch ended after their deadline."""
    recent: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=64))
    """Begin and expected end of the last batches."""


class Record:
    """Collects events. `requests` grow as they come; everything else goes by their numbers."""

    def __init__(self, workers: int) -> None:
        self.workers = [WorkerRecord() for _ in range(workers)]
        self.counts = [0] * len(Outcome)
        self.latencies: list[float] = []
        self.refusal_ages: list[float] = []
        self.refusal_lags: list[float] = []
        """For each refusal, how long after it was knowable that no worker could make it; below 0: before that."""
        self.wrong = 0
        """Answers that were another request's."""
        self._deadlines: list[float] = []
        self._arrivals: list[float] = []
        self._shortest: list[float] = []
        self._digest = hashlib.blake2b(digest_size=8)

    def __len__(self) -> int:
        return len(self._arrivals)

    def digest(self) -> str:
        """Returns the digest of all events so far, their times included."""
        return self._digest.hexdigest()

    def arrived(self, request: Request, shortest: float) -> int:
        """Takes in a request and the shortest time in which it can be answered; returns its number."""
        number = len(self._arrivals)
        self._arrivals.append(request.at)
        self._deadlines.append(request.at + request.slo)
        self._shortest.append(shortest)
        return number

    def began(self, worker: int, now: float, expected: float, numbers: Sequence[int]) -> None:
        """Takes in that a worker began a batch that should take `expected` seconds."""
        record = self.workers[worker]
        record.batches += 1
        record.rows += len(numbers)
        record.recent.append((now, now + expected))
        late = sum(self._deadlines[number] < now + expected for number in numbers)
        if late:
            record.hopeless += late
            record.wasted += expected * late / len(numbers)
        self._event(now, 0, worker, *numbers)

    def ran(self, worker: int, now: float, seconds: float, numbers: Sequence[int]) -> None:
        """Takes in that a worker ended a batch that took `seconds` of its device."""
        record = self.workers[worker]
        record.busy += seconds
        record.overrun += sum(self._deadlines[number] < now for number in numbers)
        self._event(now, 1, worker, *numbers)

    def answered(self, number: int, now: float, answer: int) -> None:
        """Takes in the answer to a request; `answer` is the number of the one that was computed."""
        self.wrong += answer != number
        good = now <= self._deadlines[number]
        self._ended(number, now, Outcome.good if good else Outcome.late)
        self.latencies.append(now - self._arrivals[number])

    def refused(self, number: int, now: float, failed: bool) -> None:
        """Takes in an error: `failed` unless it is a refusal for lack of time or room."""
        if failed:
            self._ended(number, now, Outcome.failed)
            return
        in_time = now < self._deadlines[number]
        self._ended(number, now, Outcome.refused if in_time else Outcome.expired)
        self.refusal_ages.append(now - self._arrivals[number])
        self.refusal_lags.append(now - self._knowable(number))

    def _ended(self, number: int, now: float, outcome: Outcome) -> None:
        self.counts[outcome] += 1
        self._event(now, 2 + outcome, number)

    def _knowable(self, number: int) -> float:
        """Returns from when on no worker could have answered a request in time, whatever else it had left undone.

        That is when its last moment to begin has passed, or when the last of the workers that could have begun it then
        had begun a batch that lasts beyond that moment.
        """
        last = self._deadlines[number] - self._shortest[number]
        known = -inf
        for worker in self.workers:
            known = max(known, next((begin for begin, end in worker.recent if begin <= last < end), last))
        return max(known, self._arrivals[number])

    def _event(self, now: float, kind: int, *numbers: int) -> None:
        self._digest.update(struct.pack(f"<dB{len(numbers)}I", now, kind, *numbers))
