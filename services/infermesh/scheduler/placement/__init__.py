"""How a worker is chosen among those that can take a version: one file per policy, one line in the table here. Others
add theirs by an entry point in the group `infermesh.placement`."""

from collections.abc import Callable
from typing import Final

from infermesh.mesh.extensions import Table
from infermesh.scheduler.placement.base import PlacementPolicy

POLICIES: Final[Table[Callable[[], PlacementPolicy]]] = Table(
    "placement policy",
    {
        "spread": "infermesh.scheduler.placement.spread:Spread",
        "binpack": "infermesh.scheduler.placement.binpack:Binpack",
    },
    "infermesh.placement",
)
