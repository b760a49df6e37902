"""What a person may say about the cluster under test, by environment variables INFERMESH_CLUSTER_*."""

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

PREFIX = "INFERMESH_CLUSTER_"


@dataclass(frozen=True)
class Settings:
    """Read once, before the tests' environment is cleaned."""

    tag: str = "dev"
    """Tag of the four images, which the nodes have or can pull."""
    next_tag: str = ""
    """Another tag of the same images, for an upgrade; empty upgrades only what stands in the values."""
    registry: str = ""
    """Registry of the images; empty means that they are on the nodes."""
    rate: float = 350.0
    """Calls per second of the plain clients together: two thirds of what two cores do beside starting pods."""
    calls: int = 20_000
    """Calls that each test under load makes at least."""
    victim: str = ""
    """Name of the node that may be cut off."""
    faults: Mapping[str, str] = field(default_factory=dict)
    """Shell commands by fault: STOP_NODE and START_NODE (power of the victim), CUT_API and MEND_API."""

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> "Settings":
        """Returns what the environment says."""
        said = {name.removeprefix(PREFIX): value for name, value in environment.items() if name.startswith(PREFIX)}
        return cls(
            tag=said.pop("TAG", cls.tag),
            next_tag=said.pop("NEXT_TAG", cls.next_tag),
            registry=said.pop("REGISTRY", cls.registry),
            rate=float(said.pop("RATE", cls.rate)),
            calls=int(said.pop("CALLS", cls.calls)),
            victim=said.pop("VICTIM", cls.victim),
            faults=said,
        )

    def need(self, *faults: str) -> None:
        """Skips the test unless the environment says how to do these."""
        for name in faults:
            if name not in self.faults:
                pytest.skip(f"needs {PREFIX}{name}: a shell command that does it")

    def do(self, fault: str) -> None:
        """Runs the command of a fault; NODE is the victim."""
        environment = {**os.environ, "NODE": self.victim}
        subprocess.run(
            self.faults[fault], shell=True, check=True, env=environment, timeout=120, stdout=subprocess.DEVNULL
        )
