"""What the scheduler thinks in: plain values for what is wanted, what is there and what was decided. Pure; `convert`
makes them from messages. A version that shall run is named by deployment and number (a `Target`) and known by digest.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum

from infermesh.names import Target, target_of
from infermesh.v1.deployment_pb2 import Deployment as DeploymentMessage
from infermesh.v1.model_pb2 import ModelVersion
from infermesh.v1.worker_pb2 import Worker as WorkerMessage


class State(IntEnum):
    """What a worker does with a version; the numbers are those of `HeldVersion.State`."""

    LOADING = 1
    READY = 2
    FAILED = 3
    UNLOADING = 4


@dataclass(frozen=True, slots=True)
class Version:
    """What placing a version needs to know. `memory` is in bytes, declared or estimated; `facts` is for routes only."""

    number: str
    digest: str
    backend: str = ""
    device: str = ""
    memory: int = 0
    facts: ModelVersion = field(default_factory=ModelVersion, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class TrafficTarget:
    """A version that shall be loaded and its share of the calls."""

    version: str
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Deployment:
    """A wanted deployment.

    `targets` name each version once; `versions` are by number; `remembered` are those of them that the registry no
    longer lists; `spec` is for the edges only. `replicas` means nothing where `all_workers` is set. `pool` is the only
    one whose workers may hold it; empty means all.
    """

    id: str
    model: str
    targets: tuple[TrafficTarget, ...]
    versions: Mapping[str, Version]
    aliases: Mapping[str, str] = field(default_factory=dict)
    replicas: int = 1
    all_workers: bool = False
    pool: str = ""
    device: str = ""
    generation: int = 1
    remembered: frozenset[str] = frozenset()
    spec: DeploymentMessage = field(default_factory=DeploymentMessage, compare=False, repr=False)

    def with_remembered(self, versions: Mapping[str, Version]) -> "Deployment":
        """Returns the same with versions that the registry no longer lists."""
        return replace(self, versions={**self.versions, **versions}, remembered=frozenset(versions))


@dataclass(frozen=True, slots=True)
class Desired:
    """Everything that is wanted."""

    deployments: tuple[Deployment, ...] = ()
    revision: int = 0


@dataclass(frozen=True, slots=True)
class Held:
    """What a worker says of one version that it has. `memory` is in bytes, 0 while not measured."""

    deployment: str
    version: str
    digest: str
    state: State
    reason: str = ""
    memory: int = 0
    load_seconds: float = 0.0

    @property
    def target(self) -> Target:
        """Deployment and version in one."""
        return target_of(self.deployment, self.version)


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker that is alive. `memory` is what models may use, in bytes; 0 means unknown, and sets no limit."""

    id: str
    device: str = "cpu"
    pool: str = ""
    memory: int = 0
    held: tuple[Held, ...] = ()
    backends: frozenset[str] = frozenset()
    draining: bool = False
    weight: float = 1.0
    address: str = ""
    bundle_address: str = ""
    incarnation: str = ""
    message: WorkerMessage = field(default_factory=WorkerMessage, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Assigned:
    """One version of one deployment that a worker shall hold."""

    deployment: str
    version: str
    digest: str

    @property
    def target(self) -> Target:
        """Deployment and version in one."""
        return target_of(self.deployment, self.version)


@dataclass(frozen=True, slots=True)
class Unplaced:
    """Replicas of a version that no worker can take now, and what is missing."""

    deployment: str
    version: str
    replicas: int
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that each worker shall hold, by worker id (every worker that was looked at has an entry)."""

    assignments: Mapping[str, tuple[Assigned, ...]] = field(default_factory=dict)
    unplaced: tuple[Unplaced, ...] = ()
