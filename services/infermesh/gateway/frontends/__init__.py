"""The protocols of the front door: one entry each."""

from typing import Final

from infermesh.gateway.frontends.base import Factory
from infermesh.mesh.extensions import Table

TABLE: Final[Table[Factory]] = Table(
    "front end",
    {
        "health": "infermesh.gateway.frontends.health:HealthFrontend",
        "metrics": "infermesh.gateway.frontends.metrics:MetricsFrontend",
        "oip_grpc": "infermesh.gateway.frontends.oip.grpc:OipGrpcFrontend",
        "oip_rest": "infermesh.gateway.frontends.oip.rest:OipRestFrontend",
        "proxy": "infermesh.gateway.frontends.proxy:ProxyFrontend",
        "reflection": "infermesh.gateway.frontends.reflection:ReflectionFrontend",
    },
    "infermesh.frontends",
)
