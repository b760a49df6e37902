"""`grpc.health.v1` with Check, Watch and List, over our own wire-compatible messages. Status derives from what the
process says of itself, nothing else.

Names that every process has: `""` and `readiness` say whether it may be given work, `liveness` whether it is worth
keeping, which it is also while it starts, waits or drains: only a process that is stuck is not.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import grpc
import grpc.aio

from infermesh.errors import NotFound
from infermesh.health.v1 import health_pb2 as pb

SERVICE: Final = "grpc.health.v1.Health"
READINESS: Final = "readiness"
LIVENESS: Final = "liveness"
Status = pb.HealthCheckResponse.ServingStatus


class Health:
    """The statuses of one process; `""` stands for the whole and begins as NOT_SERVING, with `readiness`.

    Once stopped it stays so, whatever happens during the lame-duck time; `liveness` goes on.
    """

    def __init__(self) -> None:
        self._statuses: dict[str, Status] = {
            "": pb.HealthCheckResponse.NOT_SERVING,
            READINESS: pb.HealthCheckResponse.NOT_SERVING,
            # whoever can answer the question has a loop that turns
            LIVENESS: pb.HealthCheckResponse.SERVING,
        }
        self._changed = asyncio.Event()
        self._stopped = False

    def set(self, service: str, serving: bool) -> None:
        """Sets the status of a service, and wakes the watchers. While the process stops only `liveness` is SERVING."""
        serving = serving and (service == LIVENESS or not self._stopped)
        status = pb.HealthCheckResponse.SERVING if serving else pb.HealthCheckResponse.NOT_SERVING
        self._statuses[service] = status
        if service == "":
            self._statuses[READINESS] = status
        self._changed.set()
        self._changed = asyncio.Event()

    def stop(self) -> None:
        """Sets every service but `liveness` to NOT_SERVING, for good."""
        self._stopped = True
        for service in list(self._statuses):
            if service != LIVENESS:
                self.set(service, False)

    def serving(self, service: str = "") -> bool:
        """Tells whether a service is SERVING."""
        return self._statuses.get(service) == pb.HealthCheckResponse.SERVING

    def check(self, service: str) -> pb.HealthCheckResponse:
        """Returns the status of a service. Raises NotFound if there is none of that name."""
        if service not in self._statuses:
            raise NotFound.of("service", service, f"known: {', '.join(repr(s) for s in sorted(self._statuses))}")
        return pb.HealthCheckResponse(status=self._statuses[service])

    def all(self) -> pb.HealthListResponse:
        """Returns the status of every service."""
        return pb.HealthListResponse(
            statuses={name: pb.HealthCheckResponse(status=status) for name, status in self._statuses.items()}
        )

    async def watch(self, service: str) -> AsyncIterator[pb.HealthCheckResponse]:
        """Yields the status of a service now and at every change; SERVICE_UNKNOWN while there is none of that name."""
        last = None
        while True:
            changed = self._changed
            now = self._statuses.get(service, pb.HealthCheckResponse.SERVICE_UNKNOWN)
            if now != last:
                yield pb.HealthCheckResponse(status=now)
                last = now
            await changed.wait()


def add_to_server(health: Health, server: grpc.aio.Server) -> None:
    """Serves `health` on a gRPC server."""

    async def check(request: pb.HealthCheckRequest, context: Any) -> pb.HealthCheckResponse:
        return health.check(request.service)

    async def list_(request: pb.HealthListRequest, context: Any) -> pb.HealthListResponse:
        return health.all()

    async def watch(request: pb.HealthCheckRequest, context: Any) -> AsyncIterator[pb.HealthCheckResponse]:
        async for response in health.watch(request.service):
            yield response

    def codecs(request: Any) -> dict[str, Any]:
        return {"request_deserializer": request.FromString, "response_serializer": lambda m: m.SerializeToString()}

    handlers = {
        "Check": grpc.unary_unary_rpc_method_handler(check, **codecs(pb.HealthCheckRequest)),
        "List": grpc.unary_unary_rpc_method_handler(list_, **codecs(pb.HealthListRequest)),
        "Watch": grpc.unary_stream_rpc_method_handler(watch, **codecs(pb.HealthCheckRequest)),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
