"""What is known about uploads, in SQL. Their bytes lie in the artifact store."""

from typing import Any

import sqlalchemy as sa

from infermesh.errors import NotFound
from infermesh.registry.catalog import schema
from infermesh.registry.catalog.base import UploadRecord
from infermesh.registry.catalog.database import Database

_TABLE = schema.uploads


class SqlUploads:
    """Keeps records of uploads; see `base.Uploads`."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def put(self, record: UploadRecord) -> None:
        """See `base.Uploads.put`."""
        values = {"id": record.id, "digest": record.digest, "size": record.size, "expires": record.expires}

        def body(tx: sa.Connection) -> None:
            tx.execute(sa.delete(_TABLE).where(_TABLE.c.id == record.id))
            tx.execute(sa.insert(_TABLE).values(**values))

        self._db.write(body)

    def get(self, upload: str) -> UploadRecord:
        """See `base.Uploads.get`."""
        found = self._select(_TABLE.c.id == upload)
        if not found:
            raise NotFound.of("upload", f"uploads/{upload}", "it may have expired: start it again")
        return found[0]

    def find(self, digest: str) -> list[UploadRecord]:
        """See `base.Uploads.find`."""
        return self._select(_TABLE.c.digest == digest)

    def expired(self, now: int) -> list[UploadRecord]:
        """See `base.Uploads.expired`."""
        return self._select(_TABLE.c.expires < now)

    def forget(self, upload: str) -> None:
        """See `base.Uploads.forget`."""
        statement = sa.delete(_TABLE).where(_TABLE.c.id == upload)
        self._db.write(lambda tx: tx.execute(statement))

    def _select(self, condition: sa.ColumnElement[bool]) -> list[UploadRecord]:
        query = sa.select(_TABLE).where(condition).order_by(_TABLE.c.expires.desc(), _TABLE.c.id)
        return self._db.read(lambda tx: [_record(row) for row in tx.execute(query)])


def _record(row: sa.Row[Any]) -> UploadRecord:
    return UploadRecord(*row)  # the columns are in the order of the fields
