"""`infermesh.v1.StateService`: the scheduler's way in."""

from collections.abc import AsyncIterator
from typing import TypeAlias

import grpc.aio
from prometheus_client import Gauge

from infermesh import names
from infermesh.errors import NotReady
from infermesh.registry.catalog.base import Catalog
from infermesh.registry.changes import Changes
from infermesh.registry.rules.fields import bad
from infermesh.registry.threads import Threads
from infermesh.v1 import state_service_pb2 as pb
from infermesh.v1.deployment_pb2 import Deployment
from infermesh.v1.state_service_pb2_grpc import StateServiceServicer

Context: TypeAlias = grpc.aio.ServicerContext


class StateServicer(StateServiceServicer):
    """See state_service.proto."""

    def __init__(
        self, catalog: Catalog, threads: Threads, changes: Changes, watchers: Gauge, poll_interval: float | None
    ) -> None:
        """`poll_interval` (seconds) is for a database that other processes write to: they can't wake our watchers."""
        self._state = catalog.state
        self._run = threads.run
        self._changes = changes
        self._watchers = watchers
        self._poll_interval = poll_interval

    async def WatchDesired(self, request: pb.WatchDesiredRequest, context: Context) -> AsyncIterator[pb.DesiredState]:
        """See state_service.proto. Ends UNAVAILABLE when the registry stops, so that the watcher comes back."""
        sent = -1
        with self._watchers.track_inprogress():
            while not self._changes.closed:
                mark = self._changes.mark
                if await self._run(self._state.revision) != sent:
                    desired = await self._run(self._state.desired)
                    sent = desired.revision
                    yield desired
                await self._changes.wait(mark, self._poll_interval)
        raise NotReady("the registry is stopping: watch again", retry_after=1.0)

    async def ReportDeployments(
        self, request: pb.ReportDeploymentsRequest, context: Context
    ) -> pb.ReportDeploymentsResponse:
        """See state_service.proto."""
        for index, report in enumerate(request.reports):
            names.parse("deployments/*", report.name)
            if report.state not in Deployment.State.values() or report.state == Deployment.STATE_UNSPECIFIED:
                raise bad(f"reports[{index}].state", "a state that is set", report.state)
        if request.reports:
            await self._run(self._state.report, request.reports)
        return pb.ReportDeploymentsResponse()
