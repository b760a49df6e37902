"""How a gRPC server of the mesh is built, bound and drained."""

from collections.abc import Sequence
from typing import Any, Final

import grpc
import grpc.aio

from infermesh.errors import ConfigError
from infermesh.mesh.interceptors import ErrorInterceptor
from infermesh.mesh.tls import Certificates, server_credentials

OPTIONS: Final[tuple[tuple[str, Any], ...]] = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.so_reuseport", 0),  # a second process on the same port must fail, not share
    # our clients ping every 2 s, calls or not
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
)


def create_server(
    interceptors: Sequence[grpc.aio.ServerInterceptor] = (), options: Sequence[tuple[str, Any]] = ()
) -> grpc.aio.Server:
    """Returns a server that turns errors of the tree into rich statuses and hides every other.

    `options` are further channel arguments of gRPC.
    """
    return grpc.aio.server(interceptors=(*interceptors, ErrorInterceptor()), options=(*OPTIONS, *options))


async def bind(server: grpc.aio.Server, listen: str, certificates: Certificates | None = None) -> str:
    """Binds and starts the server; returns the address (host:port) that it got. Raises ConfigError if it is taken.

    With `certificates` it speaks TLS, and to clients that show a certificate only.
    """
    host, _, _ = listen.rpartition(":")
    try:
        if certificates is None:
            port = server.add_insecure_port(listen)
        else:
            port = server.add_secure_port(listen, server_credentials(certificates))
    except RuntimeError as error:
        raise ConfigError(f"listen: can't bind {listen}: is it taken? Choose another, or port 0 for any") from error
    if not port:
        raise ConfigError(f"listen: can't bind {listen}: is it taken? Choose another, or port 0 for any")
    await server.start()
    return f"{host}:{port}"


async def drain(server: grpc.aio.Server, timeout: float) -> None:
    """Refuses new calls, waits up to `timeout` seconds for those under way, then cuts them."""
    await server.stop(timeout)
