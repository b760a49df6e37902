"""Many calls at once against a gateway, and what became of them."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from infermesh.client import AsyncClient
from infermesh.demo.digits import Images
from infermesh.errors import MeshError

DEPLOYMENT = "digits"


@dataclass
class Outcome:
    """What became of some calls. Times in seconds; `answers` holds the digit that each call was answered with."""

    answers: dict[int, int] = field(default_factory=dict)
    versions: Counter[str] = field(default_factory=Counter)
    failures: list[MeshError] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    elapsed: float = 0.0

    @property
    def rate(self) -> float:
        """Answered calls per second."""
        return len(self.answers) / self.elapsed

    def quantile(self, share: float) -> float:
        """Returns the latency in milliseconds that this share of the calls stays within."""
        return float(np.quantile(self.latencies, share)) * 1e3

    def share(self, version: str) -> float:
        """Returns the share of the answered calls that a version answered."""
        return self.versions[version] / max(1, self.versions.total())


@dataclass(frozen=True)
class Load:
    """`calls` calls, at most `in_flight` at once; call i sends image i (modulo) to `version` ("" leaves the choice)."""

    images: Images
    calls: int
    in_flight: int = 1
    version: str = ""
    timeout: float = 30.0

    async def run(self, client: AsyncClient, answered: Callable[[int], None] = lambda count: None) -> Outcome:
        """Makes the calls; `answered` is called with their number after each. Failures are counted, not raised."""
        outcome = Outcome()
        waiting = iter(range(self.calls))
        start = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(min(self.in_flight, self.calls)):
                group.create_task(self._caller(client, waiting, outcome, answered))
        outcome.elapsed = time.perf_counter() - start
        return outcome

    async def _caller(
        self, client: AsyncClient, waiting: Iterator[int], outcome: Outcome, answered: Callable[[int], None]
    ) -> None:
        for number in waiting:  # shared by all callers: whoever is free takes the next
            image = self.images[number % len(self.images)]
            start = time.perf_counter()
            try:
                result = await client.infer(
                    DEPLOYMENT, {"image": image[None]}, version=self.version, timeout=self.timeout
                )
            except MeshError as error:
                outcome.failures.append(error)
            else:
                outcome.answers[number] = int(result["scores"].argmax())
                outcome.versions[result.version] += 1
            outcome.latencies.append(time.perf_counter() - start)
            answered(len(outcome.latencies))
