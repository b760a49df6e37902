"""`GET /metrics`: the metrics of the app's process, in the text format that the scraper asks for."""

from collections.abc import Sequence

from prometheus_client.exposition import choose_encoder
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from infermesh.gateway.framing.methods import Methods
from infermesh.gateway.frontends.base import Parts
from infermesh.gateway.frontends.http import Endpoint


class MetricsFrontend:
    """Prometheus' two text formats."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def methods(self) -> Methods:
        """Returns nothing."""
        return {}

    def routes(self) -> Sequence[BaseRoute]:
        """Returns `/metrics`."""
        return [Route("/metrics", Endpoint(self._expose, self._parts.guard), methods=["GET"])]

    async def _expose(self, request: Request, body: bytes) -> Response:
        encode, kind = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(self._parts.metrics), headers={"content-type": kind})
