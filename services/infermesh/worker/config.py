"""Settings of a worker."""

from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field as Limit

from infermesh.mesh.config import ProcessConfig


@dataclass(frozen=True)
class WorkerConfig:
    """Settings of a worker process."""

    listen: Annotated[str, "host:port of the worker's public gRPC services; port 0 takes a free one"] = "127.0.0.1:0"
    advertise: Annotated[str, "host:port under which others reach it; empty takes what it listens on"] = ""
    bundle_listen: Annotated[str, "host:port to which gateways bring their bundles; port 0 takes a free one"] = (
        "127.0.0.1:0"
    )
    bundle_advertise: Annotated[str, "host:port under which gateways reach that; empty takes what it listens on"] = ""
    scheduler: Annotated[str, "host:port of the scheduler"] = "127.0.0.1:8301"
    registry: Annotated[str, "host:port of the registry"] = "127.0.0.1:8302"
    id: Annotated[str, "name of this worker in the mesh; empty makes one of host name and process"] = ""
    device: Annotated[
        str,
        Limit(pattern=r"^(auto|cpu|cuda|cuda:\d+|mps|xpu)$"),
        "auto, cpu, cuda, cuda:N, mps or xpu",
    ] = "auto"
    cache: Annotated[str, "folder of fetched files; may be lost at any time"] = ".infermesh/cache"
    cache_limit: Annotated[int, Limit(ge=0), "most bytes in the cache; 0 means no limit"] = 0
    memory_limit: Annotated[int, Limit(ge=0), "bytes that models may use; 0 takes what the device has"] = 0
    allow_python: Annotated[bool, "run Python code that comes with versions: only for models you trust"] = False
    threads: Annotated[int, Limit(ge=0), "threads of one execution; 0 divides the cores between the models"] = 0
    loads: Annotated[int, Limit(ge=1), "versions that are loaded at the same time"] = 2
    unload_timeout: Annotated[float, Limit(ge=0), "seconds that calls may take to finish before an unload"] = 30.0
    weight: Annotated[float, Limit(gt=0), "share of the calls under the weighted policy"] = 1.0
    labels: Annotated[dict[str, str], "labels, e.g. zone=a,pool=small"] = field(default_factory=dict)
    process: ProcessConfig = field(default_factory=ProcessConfig)
