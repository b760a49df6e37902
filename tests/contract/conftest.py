"""Implementations that the contract suites run on."""

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from infermesh.registry.catalog.base import Catalog
from infermesh.registry.catalog.database import Database
from infermesh.registry.catalog.sql import sql_catalog
from tests.unit.registry.messages import ticking

POSTGRES = os.environ.get("TEST_POSTGRES_URL", "")  # of a database in which schemas may be made


@pytest.fixture(params=["sqlite", *(["postgresql"] if POSTGRES else [])])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database of each kind that there is."""
    if request.param == "sqlite":
        database = Database(f"sqlite:///{tmp_path / 'registry.db'}", now=ticking())
        yield database
        database.close()
        return
    schema, admin = f"test_{secrets.token_hex(4)}", sa.create_engine(POSTGRES)
    with admin.begin() as connection:
        connection.execute(sa.schema.CreateSchema(schema))
    own = sa.make_url(POSTGRES).update_query_dict({"options": f"-csearch_path={schema}"})
    database = Database(own.render_as_string(hide_password=False), now=ticking())
    yield database
    database.close()
    with admin.begin() as connection:
        connection.execute(sa.schema.DropSchema(schema, cascade=True))
    admin.dispose()


@pytest.fixture
def catalog(database: Database) -> Catalog:
    """A catalog on an empty database."""
    return sql_catalog(database)
