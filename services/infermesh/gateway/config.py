"""Settings of the gateway. Read once by `main`; the app inside Envoy gets them as a file."""

from dataclasses import dataclass, field, replace
from typing import Annotated, Final

from pydantic import Field as Limit

from infermesh.gateway.admission import Limits
from infermesh.mesh.config import ProcessConfig

BESIDE_HEAP: Final = 160 << 20
"""Bytes that the front's process takes beside its heap: programs, libraries, small Python objects."""
COPIES: Final = 4
"""How often a request's bytes may be in memory while it passes through: as read, cut out, put in a bundle, sent."""
_ADDRESS = Limit(pattern=r"^.+:[0-9]{1,5}$")
_SECONDS = Limit(gt=0, le=86_400 * 365)


@dataclass(frozen=True)
class ClientLimits:
    """What one client, or all together, may take of a gateway. Who takes more is cut; times are in seconds.

    A connection must say something within `header_timeout`, and so must the headers of each request be whole. A message
    that comes in pieces may take `body_timeout` beyond what its bytes need at `min_rate`: an upload may be slow, but
    not stuck. A caller must take a mebibyte of its answer within `stall_timeout`; an answer that is not due yet may
    take any time, but that of a REST call, whose connection has no way to show life, must begin within it. Streams may
    be silent for ever, as long as the connection's other end answers pings.
    """

    max_connections: Annotated[int, Limit(ge=1, le=1_000_000), "connections that may be open"] = 10_000
    max_streams: Annotated[int, Limit(ge=1, le=2**31 - 1), "calls under way on one connection"] = 8_192
    max_resets: Annotated[
        int,
        Limit(ge=2, le=2**31 - 1),
        "calls of a connection of which half may be cancelled within a second, before it is closed; above, half of all",
    ] = 4_000
    calls_at_once: Annotated[
        int, Limit(ge=1, le=2**31 - 1), "calls of one connection that are begun before the others have their turn"
    ] = 256
    header_timeout: Annotated[float, _SECONDS, "for a connection's first bytes and a request's headers"] = 10.0
    body_timeout: Annotated[float, _SECONDS, "for a message, beyond the time that its bytes need at min_rate"] = 20.0
    min_rate: Annotated[float, Limit(gt=0), "bytes per second at which a request must come at least"] = 1024.0
    stall_timeout: Annotated[float, _SECONDS, "that a caller may leave an answer unread, or a REST call be silent"] = (
        300.0
    )
    max_connection_age: Annotated[
        float,
        Limit(ge=0, le=86_400 * 365),
        "after which a connection is sent away, its calls served, so that clients spread over new gateways; 0: never",
    ] = 0.0
    max_address_age: Annotated[
        float,
        Limit(ge=0, le=3600),
        "that clients may go on with addresses they have looked up: so much longer than drain.lame_duck a gateway that "
        "was told to stop goes on serving, as long as any are connected",
    ] = 0.0
    idle_timeout: Annotated[float, _SECONDS, "that a connection without calls is kept"] = 3600.0
    ping_interval: Annotated[float, Limit(ge=1, le=86_400), "between pings of a connection"] = 30.0
    ping_timeout: Annotated[float, Limit(ge=1, le=86_400), "until a ping must be answered"] = 10.0
    max_ratio: Annotated[int, Limit(ge=2, le=1032), "times its size that compressed bytes above 4 MiB may grow to"] = (
        100
    )


@dataclass(frozen=True)
class FrontTls:
    """TLS of the public port; without a certificate it is plaintext. Renewed files are taken without a restart."""

    cert: Annotated[str, "PEM file: the certificate that clients see, with what leads from it to its authority"] = ""
    key: Annotated[str, "PEM file: the certificate's key"] = ""
    client_ca: Annotated[
        str, "PEM file: the authority that clients must have a certificate from; empty: they need none"
    ] = ""


@dataclass(frozen=True)
class GatewayConfig:
    """Settings of one gateway process."""

    listen: Annotated[str, _ADDRESS, "host:port of every public protocol; port 0 takes a free one"] = "127.0.0.1:0"
    grpc_listen: Annotated[
        str,
        Limit(pattern=r"^(.+:[0-9]{1,5})?$"),
        "host:port of gRPC alone, where a call costs a third as much; port 0 takes a free one; empty: none",
    ] = ""
    scheduler: Annotated[str, _ADDRESS, "host:port of the scheduler"] = "127.0.0.1:8301"
    registry: Annotated[str, _ADDRESS, "host:port of the registry"] = "127.0.0.1:8302"
    name: Annotated[str, "name of this gateway in logs and at the workers; empty takes host name and process id"] = ""
    state: Annotated[
        str, "folder for the last known routes, to start with them while no scheduler answers; empty keeps none"
    ] = ""
    concurrency: Annotated[int, Limit(ge=1, le=64), "threads of Envoy"] = 1
    max_body_bytes: Annotated[int, Limit(ge=1024, le=2**31 - 1), "largest message or body, decompressed"] = 256 << 20
    max_memory_bytes: Annotated[
        int, Limit(ge=1 << 20), "memory of the process that serves clients; above it, calls are refused"
    ] = 2 << 30
    frontends: Annotated[tuple[str, ...], "protocols that are served; empty means all"] = ()
    front_tls: FrontTls = field(default_factory=FrontTls)
    clients: ClientLimits = field(default_factory=ClientLimits)
    limits: Limits = field(default_factory=Limits)
    process: ProcessConfig = field(default_factory=ProcessConfig)

    def __post_init__(self) -> None:
        least = BESIDE_HEAP + COPIES * self.max_body_bytes
        if self.max_memory_bytes < least:
            raise ValueError(
                f"max_memory_bytes: expected at least {least} for a max_body_bytes of {self.max_body_bytes}, got "
                f"{self.max_memory_bytes}"
            )

    @property
    def held_bytes(self) -> int:
        """Bytes of requests that may be in the process at a time."""
        return (self.max_memory_bytes - BESIDE_HEAP) // COPIES

    @property
    def dispatch_limits(self) -> Limits:
        """What may wait, and for how long; no more bytes than the memory has room for."""
        return replace(self.limits, max_waiting_bytes=min(self.limits.max_waiting_bytes, self.held_bytes))
