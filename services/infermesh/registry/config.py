"""Settings of the registry."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import Field as Limit

from infermesh.mesh.config import ProcessConfig


@dataclass(frozen=True)
class UploadsConfig:
    """How files come in."""

    ttl: Annotated[float, Limit(gt=0), "seconds after which an upload that nobody goes on with is thrown away"] = (
        86_400.0
    )
    sweep_interval: Annotated[float, Limit(gt=0), "seconds between two searches for such uploads"] = 600.0


@dataclass(frozen=True)
class RegistryConfig:
    """Settings of the registry."""

    listen: Annotated[str, "host:port to serve on; port 0 takes a free one"] = "127.0.0.1:0"
    home: Annotated[str, "folder for all that must survive"] = ".infermesh/registry"
    database_url: Annotated[
        str, "SQLAlchemy URL (sqlite or postgresql+psycopg); empty means registry.db in the home", Limit(repr=False)
    ] = field(default="", repr=False)
    artifacts: Annotated[
        str, "folder (or NAME:PLACE of another store) for files; empty means artifacts in the home"
    ] = ""
    threads: Annotated[int, Limit(ge=1, le=256), "threads for the database and the files"] = 4
    poll_interval: Annotated[
        float, Limit(gt=0), "seconds between looks for changes of other registries on the same database"
    ] = 2.0
    uploads: UploadsConfig = field(default_factory=UploadsConfig)
    process: ProcessConfig = field(default_factory=ProcessConfig)

    @property
    def database(self) -> str:
        """The URL of the database."""
        return self.database_url or f"sqlite:///{(Path(self.home) / 'registry.db').absolute()}"

    @property
    def artifact_store(self) -> str:
        """The place of the files, as `artifacts.open_store` takes it."""
        return self.artifacts or str((Path(self.home) / "artifacts").absolute())
