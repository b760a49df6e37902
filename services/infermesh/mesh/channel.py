"""How members of the mesh, and our SDK, dial each other."""

import json
from typing import Any, Final

import grpc.aio

from infermesh.mesh.secure_channel import SecureChannel
from infermesh.mesh.tls import Certificates

OPTIONS: Final[tuple[tuple[str, Any], ...]] = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # a dead wire is noticed after 3 s; servers of the mesh allow such pings
    ("grpc.keepalive_time_ms", 2_000),
    ("grpc.keepalive_timeout_ms", 1_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # a peer that is held up, while its system goes on taking what it is sent, answers none: gRPC would wait a minute
    ("grpc.http2.ping_timeout_ms", 5_000),
    # we look again quickly: a restarted peer is back within a second
    ("grpc.initial_reconnect_backoff_ms", 100),
    # which is how long a connection may take to come about: three round trips with TLS, on a busy machine
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # and where a name has come to stand for another address, we ask for it as soon as nobody answers under the old one
    ("grpc.dns_min_time_between_resolutions_ms", 500),
    # one caller's trouble with a peer must not put another caller's channel into back-off
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
    # retries are ours to budget; this brings only those that gRPC makes of calls which no server has seen, because the
    # connection was sent away at that moment
    ("grpc.enable_retries", 1),
    ("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})),
)


def connect(address: str, certificates: Certificates | None = None) -> grpc.aio.Channel:
    """Returns a channel to `address` (host:port, or any gRPC target). Does not block; connects when used.

    With `certificates` it speaks TLS; those renewed on disk are used for calls that begin later.
    """
    if certificates is None:
        return grpc.aio.insecure_channel(address, options=OPTIONS)
    return SecureChannel(address, OPTIONS, certificates)
