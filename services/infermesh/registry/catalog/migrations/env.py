"""Alembic runs this for a migration; the connection comes from `catalog.database`."""

from alembic import context

from infermesh.registry.catalog.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
context.run_migrations()
