"""What gateways tell of the calls that wait and of those that workers have, summed up. Pure; every method takes the
time, in seconds."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from infermesh.v1.scheduler_service_pb2 import DeploymentDemand, ReportDemandRequest

LIFETIME: Final = 5.0
"""Seconds after which a report that was not renewed counts no longer."""
_REMEMBERED: Final = 86_400.0  # seconds; no pool waits longer before its last worker stops


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits for one deployment: calls, their rows, and the seconds that one more would wait, the longest."""

    rows: int = 0
    calls: int = 0
    wait: float = 0.0

    def plus(self, other: DeploymentDemand) -> "Waiting":
        """Returns the sum with what one more gateway tells."""
        calls = max(0, other.waiting_calls)
        wait = other.predicted_wait.ToTimedelta().total_seconds() if calls else 0.0
        return Waiting(self.rows + max(calls, other.waiting_rows), self.calls + calls, max(self.wait, wait))


@dataclass(frozen=True, slots=True)
class Load:
    """The calls that one worker has, and the share (0 to 1) that they are of those that it would take at a time."""

    in_flight: int = 0
    share: float = 0.0


@dataclass(frozen=True, slots=True)
class Demand:
    """The sum of all gateways.

    `waiting` has the deployments that calls wait for, `used` when each was last seen in use, `loads` the workers.
    `known` is False while no gateway reports: then the rest says nothing.
    """

    known: bool = False
    waiting: Mapping[str, Waiting] = field(default_factory=dict)
    used: Mapping[str, float] = field(default_factory=dict)
    loads: Mapping[str, Load] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Entry:
    report: ReportDemandRequest
    heard: float


class DemandBook:
    """The last report of every gateway."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._used: dict[str, float] = {}

    def hear(self, report: ReportDemandRequest, now: float) -> bool:
        """Takes in a report in place of the gateway's last.

        Returns whether calls have begun to wait for a deployment that no worker serves.
        """
        before = self._entries.get(report.gateway)
        self._entries[report.gateway] = _Entry(report, now)
        known = {item.deployment: item for item in before.report.deployments} if before else {}
        for item in report.deployments:
            last = known.get(item.deployment)
            # what a gateway had before its first report may be long ago
            if item.waiting_calls > 0 or (before is not None and item.ended != (last.ended if last else 0)):
                self._used[item.deployment] = now
        unserved = {item.deployment for item in report.deployments if item.unserved}
        return bool(unserved - {name for name, item in known.items() if item.unserved})

    def demand(self, now: float) -> Demand:
        """Returns the sum of the reports that count."""
        self._expire(now)
        reports = [entry.report for entry in self._entries.values()]
        waiting: dict[str, Waiting] = {}
        for report in reports:
            for item in report.deployments:
                if item.waiting_calls > 0:
                    waiting[item.deployment] = waiting.get(item.deployment, Waiting()).plus(item)
        return Demand(bool(reports), waiting, dict(self._used), _loads(reports))

    def _expire(self, now: float) -> None:
        for name in [name for name, entry in self._entries.items() if now - entry.heard >= LIFETIME]:
            del self._entries[name]
        for deployment in [name for name, used in self._used.items() if now - used > _REMEMBERED]:
            del self._used[deployment]


def _loads(reports: Iterable[ReportDemandRequest]) -> dict[str, Load]:
    calls: dict[str, int] = {}
    credit: dict[str, int] = {}
    for report in reports:
        for item in report.workers:
            calls[item.worker] = calls.get(item.worker, 0) + max(0, item.in_flight)
            credit[item.worker] = credit.get(item.worker, 0) + max(0, item.credit)
    return {worker: Load(count, min(1.0, count / max(1, credit[worker]))) for worker, count in calls.items()}
