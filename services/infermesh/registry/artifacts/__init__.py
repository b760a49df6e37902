"""Files by their content, behind the seam in `base`. One line in the table for each implementation; a setting such as
`/data/artifacts` or `folder:/data/artifacts` chooses one by the part before the first colon."""

from collections.abc import Callable

from infermesh.mesh.extensions import Table
from infermesh.registry.artifacts.base import ArtifactStore

GROUP = "infermesh.artifact_stores"


def table() -> Table[Callable[[str], ArtifactStore]]:
    """Returns the implementations by name; each takes the part of the setting behind the colon."""
    return Table("artifacts", {"folder": "infermesh.registry.artifacts.folder:FolderStore"}, GROUP)


def open_store(setting: str) -> ArtifactStore:
    """Returns the store that a setting names; blocks. Raises ConfigError."""
    name, colon, rest = setting.partition(":")
    if not colon or "/" in name:
        name, rest = "folder", setting
    return table().load(name)(rest)
