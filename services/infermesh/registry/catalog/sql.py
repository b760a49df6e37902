"""Puts the SQL catalog together. Called by `main` (and by tests)."""

from infermesh.registry.catalog.aliases import SqlAliases
from infermesh.registry.catalog.base import Catalog
from infermesh.registry.catalog.database import Database
from infermesh.registry.catalog.deployments import SqlDeployments
from infermesh.registry.catalog.models import SqlModels
from infermesh.registry.catalog.operations import SqlOperations
from infermesh.registry.catalog.state import SqlState
from infermesh.registry.catalog.uploads import SqlUploads
from infermesh.registry.catalog.versions import SqlVersions


def sql_catalog(database: Database) -> Catalog:
    """Returns a catalog on an open database; does not block."""
    return Catalog(
        models=SqlModels(database),
        versions=SqlVersions(database),
        aliases=SqlAliases(database),
        deployments=SqlDeployments(database),
        operations=SqlOperations(database),
        state=SqlState(database),
        uploads=SqlUploads(database),
    )
