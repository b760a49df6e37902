"""The history of the schema, run by alembic at start-up."""
