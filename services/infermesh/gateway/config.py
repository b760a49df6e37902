"""Settings of the gateway. Read once by `main`; the app inside Envoy gets them as a file."""

from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field as Limit

from infermesh.gateway.admission import Limits
from infermesh.mesh.config import ProcessConfig

_ADDRESS = Limit(pattern=r"^.+:[0-9]{1,5}$")


@dataclass(frozen=True)
class GatewayConfig:
    """Settings of one gateway process."""

    listen: Annotated[str, _ADDRESS, "host:port of every public protocol; port 0 takes a free one"] = "127.0.0.1:0"
    scheduler: Annotated[str, _ADDRESS, "host:port of the scheduler"] = "127.0.0.1:8301"
    registry: Annotated[str, _ADDRESS, "host:port of the registry"] = "127.0.0.1:8302"
    name: Annotated[str, "name of this gateway in logs and at the workers; empty takes host name and process id"] = ""
    concurrency: Annotated[int, Limit(ge=1, le=64), "threads of Envoy"] = 1
    max_body_bytes: Annotated[int, Limit(ge=1024, le=2**31 - 1), "largest message or body, decompressed"] = 256 << 20
    frontends: Annotated[tuple[str, ...], "protocols that are served; empty means all"] = ()
    limits: Limits = field(default_factory=Limits)
    process: ProcessConfig = field(default_factory=ProcessConfig)
