"""Asks a service how it is, as a platform's probe does."""

from typing import Final

import grpc

from infermesh.health.v1 import health_pb2 as pb
from infermesh.mesh.health import SERVICE

# a probe makes a connection of its own each time, whatever became of the last one
_OPTIONS: Final = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0))
_TIMEOUT: Final = 1.0


def is_serving(address: str) -> bool:
    """Tells whether the health service at `address` (host:port) says SERVING now."""
    with grpc.insecure_channel(address, options=_OPTIONS) as channel:
        check = channel.unary_unary(
            f"/{SERVICE}/Check",
            request_serializer=pb.HealthCheckRequest.SerializeToString,
            response_deserializer=pb.HealthCheckResponse.FromString,
        )
        try:
            answer: pb.HealthCheckResponse = check(pb.HealthCheckRequest(), timeout=_TIMEOUT)
        except grpc.RpcError:
            return False
    return answer.status == pb.HealthCheckResponse.SERVING
