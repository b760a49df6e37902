"""The way to the scheduler, as the agent sees it. Built by `main`."""

import grpc.aio

from infermesh.mesh.status import from_rpc_error
from infermesh.v1 import scheduler_service_pb2 as pb
from infermesh.v1 import scheduler_service_pb2_grpc

_TIMEOUT = 3.0  # seconds; a heartbeat that takes longer is of no use any more


class SchedulerLink:
    """Sends heartbeats over gRPC."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = scheduler_service_pb2_grpc.SchedulerServiceStub(channel)  # type: ignore[no-untyped-call]

    async def heartbeat(self, request: pb.HeartbeatRequest) -> pb.HeartbeatResponse:
        """See `agent.Scheduler`."""
        try:
            response: pb.HeartbeatResponse = await self._stub.Heartbeat(request, timeout=_TIMEOUT)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
        return response
