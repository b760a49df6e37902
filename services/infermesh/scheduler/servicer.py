"""SchedulerService: heartbeats of workers, routes for gateways, and the list of workers for everyone."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import structlog
from google.protobuf.duration_pb2 import Duration

from infermesh.errors import InvalidInput
from infermesh.scheduler.convert import worker_of
from infermesh.scheduler.fleet import Fleet
from infermesh.scheduler.model import Worker
from infermesh.scheduler.pages import page
from infermesh.scheduler.renewal import Renewal
from infermesh.scheduler.scaling import INTERVAL
from infermesh.v1 import scheduler_service_pb2 as pb
from infermesh.v1.scheduler_service_pb2_grpc import SchedulerServiceServicer


class Servicer(SchedulerServiceServicer):
    """Answers the calls of SchedulerService. `interval` is the time between heartbeats in seconds; `demand` takes what
    gateways tell."""

    def __init__(
        self, renewal: Renewal, fleet: Fleet, interval: float, demand: Callable[[pb.ReportDemandRequest], None]
    ) -> None:
        self._renewal = renewal
        self._fleet = fleet
        self._interval = interval
        self._demand = demand
        self._log = structlog.get_logger(__name__)

    async def Heartbeat(self, request: pb.HeartbeatRequest, context: Any) -> pb.HeartbeatResponse:
        """Takes in a heartbeat and tells what to hold. Raises InvalidInput if the worker can't be named or reached."""
        worker = worker_of(request.worker)
        if not worker.incarnation or not worker.address:
            raise InvalidInput(f"worker '{worker.id}': expected an address and an incarnation, got none")
        if self._fleet.is_retired(worker):
            self._log.warning("heartbeat of a worker that was replaced", worker=worker.id, address=worker.address)
        assignments = await self._renewal.hear(worker, leaving=request.leaving)
        return pb.HeartbeatResponse(
            assignments=assignments or (),
            interval=Duration(nanos=round(self._interval % 1 * 1e9), seconds=int(self._interval)),
            authoritative=assignments is not None,
        )

    async def WatchRoutes(self, request: pb.WatchRoutesRequest, context: Any) -> AsyncIterator[pb.RouteSnapshot]:
        """Streams the routes, beginning as soon as there are any: a scheduler that has just started knows none, and
        says nothing rather than that there are none."""
        self._log.info("gateway watches", gateway=request.gateway)
        async for snapshot in self._renewal.routes.watch():
            yield snapshot

    async def ReportDemand(self, request: pb.ReportDemandRequest, context: Any) -> pb.ReportDemandResponse:
        """Takes in what a gateway tells. Raises InvalidInput if it has no name."""
        if not request.gateway:
            raise InvalidInput("gateway: expected the name of the gateway, got none")
        self._demand(request)
        return pb.ReportDemandResponse(interval=Duration(seconds=int(INTERVAL), nanos=round(INTERVAL % 1 * 1e9)))

    async def ListWorkers(self, request: pb.ListWorkersRequest, context: Any) -> pb.ListWorkersResponse:
        """Returns a page of workers. Raises InvalidInput for a negative size or a malformed token."""
        found, token = page(self._fleet.workers(), _id, request.page_size, request.page_token)
        return pb.ListWorkersResponse(workers=[worker.message for worker in found], next_page_token=token)


def _id(worker: Worker) -> str:
    return worker.id
