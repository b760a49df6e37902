"""`grpc.health.v1` on the public port. `""` is the readiness of the gateway, and so is every service it serves."""

from collections.abc import AsyncIterator, Sequence
from typing import Final

from starlette.routing import BaseRoute

from infermesh.gateway.framing.methods import Context, Methods, server_stream, unary
from infermesh.gateway.frontends.base import Parts
from infermesh.health.v1 import health_pb2 as pb

_SERVICE: Final = "/grpc.health.v1.Health"


class HealthFrontend:
    """Check, List and Watch."""

    def __init__(self, parts: Parts) -> None:
        self._health = parts.health

    def methods(self) -> Methods:
        """Returns the three methods; Watch stands until the caller or the gateway goes."""
        return {
            f"{_SERVICE}/Check": unary(pb.HealthCheckRequest, self._check),
            f"{_SERVICE}/List": unary(pb.HealthListRequest, self._list),
            f"{_SERVICE}/Watch": server_stream(pb.HealthCheckRequest, self._watch, standing=True),
        }

    def routes(self) -> Sequence[BaseRoute]:
        """Returns nothing: the REST forms belong to the protocols that define them."""
        return ()

    async def _check(self, request: pb.HealthCheckRequest, context: Context) -> pb.HealthCheckResponse:
        return self._health.check(request.service)

    async def _list(self, request: pb.HealthListRequest, context: Context) -> pb.HealthListResponse:
        return self._health.all()

    def _watch(self, request: pb.HealthCheckRequest, context: Context) -> AsyncIterator[pb.HealthCheckResponse]:
        return self._health.watch(request.service)
