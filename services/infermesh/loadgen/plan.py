"""What a load test does: settings, and the calls that it sends."""

import base64
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from infermesh.loadgen.arrivals import Arrivals, schedule


@dataclass(frozen=True)
class Plan:
    """A load test. Times are in seconds.

    `messages` are sent in turn. `rate` is in calls per second and does not matter to closed arrivals. At most
    `in_flight` calls are under way at once; those that are due beyond that wait, and their wait counts as latency.
    A call that has no answer `timeout` after it was due has failed; one that has it within `slo` is good. `share` of
    `shares` is the part of it that a process does: every call of the schedule belongs to just one.
    """

    address: str
    messages: Sequence[bytes]
    arrivals: Arrivals = Arrivals.poisson
    rate: float = 100.0
    duration: float = 10.0
    in_flight: int = 1_000
    connections: int = 1
    timeout: float = 30.0
    slo: float = 0.1
    seed: int = 0
    share: int = 0
    shares: int = 1

    def due(self) -> npt.NDArray[np.float64]:
        """Returns when the calls of this share are due, in seconds after the start."""
        return schedule(self.arrivals, self.rate, self.duration, self.seed)[self.share :: self.shares]

    def split(self, shares: int) -> "list[Plan]":
        """Returns what each of several processes does. There are no more of them than calls in flight."""
        shares = min(shares, self.in_flight)
        return [
            replace(
                self,
                in_flight=_part(self.in_flight, share, shares),
                connections=max(1, _part(self.connections, share, shares)),
                share=share,
                shares=shares,
            )
            for share in range(shares)
        ]

    def to_json(self) -> str:
        """Returns the plan as one line of text, for another process."""
        messages = [base64.b64encode(message).decode() for message in self.messages]
        return json.dumps({**asdict(self), "messages": messages})

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        """Returns the plan of `to_json`."""
        fields: dict[str, Any] = json.loads(text)
        fields["messages"] = [base64.b64decode(message) for message in fields["messages"]]
        fields["arrivals"] = Arrivals(fields["arrivals"])
        return cls(**fields)


def _part(whole: int, share: int, shares: int) -> int:
    return whole // shares + (share < whole % shares)
