"""The catalog's contract: records of uploads; and the schema under all of it."""

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from infermesh.errors import NotFound
from infermesh.registry.catalog.base import Catalog, UploadRecord
from infermesh.registry.catalog.database import Database
from infermesh.registry.catalog.schema import metadata


def test_records_are_found_by_id_digest_and_age(catalog: Catalog) -> None:
    records = [UploadRecord("a", "x", 1, 100), UploadRecord("b", "x", 2, 300), UploadRecord("c", "y", 2**40, 200)]
    for record in records:
        catalog.uploads.put(record)
    assert [catalog.uploads.get(r.id) for r in records] == records
    assert [r.id for r in catalog.uploads.find("x")] == ["b", "a"]
    assert [r.id for r in catalog.uploads.expired(201)] == ["c", "a"]
    assert catalog.uploads.expired(100) == []


def test_a_record_is_replaced_and_forgotten(catalog: Catalog) -> None:
    catalog.uploads.put(UploadRecord("a", "x", 1, 100))
    catalog.uploads.put(UploadRecord("a", "x", 1, 900))
    assert catalog.uploads.get("a").expires == 900
    catalog.uploads.forget("a")
    catalog.uploads.forget("a")
    with pytest.raises(NotFound):
        catalog.uploads.get("a")


def test_the_migrations_make_the_schema_that_the_code_expects(database: Database) -> None:
    def differences(tx: sa.Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(tx), metadata))

    assert database.read(differences) == []
