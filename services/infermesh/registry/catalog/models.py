"""Models in SQL."""

from collections.abc import Callable

import sqlalchemy as sa

from infermesh import names
from infermesh.errors import AlreadyExists
from infermesh.registry.catalog import rows, schema
from infermesh.registry.catalog.base import Key
from infermesh.registry.catalog.database import Database
from infermesh.registry.rules.fields import check_etag
from infermesh.v1.model_pb2 import Model

_TABLE = schema.models


class SqlModels:
    """Keeps models; see `base.Models`."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def create(self, model: str, wanted: Model, key: Key | None) -> Model:
        """See `base.Models.create`."""

        def body(tx: sa.Connection) -> Model:
            earlier = rows.repeated(tx, key)
            if earlier is not None:
                return rows.model_of(rows.model_row(tx, earlier))
            insert_model(tx, model, wanted, self._db.now())
            rows.remember(tx, key, model, self._db.now())
            return rows.model_of(rows.model_row(tx, model))

        return self._db.write(body)

    def get(self, model: str) -> Model:
        """See `base.Models.get`."""
        return self._db.read(lambda tx: rows.model_of(rows.model_row(tx, model)))

    def page(self, prefix: str, after: str, limit: int) -> list[Model]:
        """See `base.Models.page`."""
        c = _TABLE.c
        query = sa.select(_TABLE).where(c.id > after).order_by(c.id).limit(limit)
        if prefix:
            query = query.where(c.id.startswith(prefix, autoescape=True))
        return self._db.read(lambda tx: [rows.model_of(row) for row in tx.execute(query)])

    def update(self, model: str, change: Callable[[Model], Model], etag: str) -> Model:
        """See `base.Models.update`."""

        def body(tx: sa.Connection) -> Model:
            current = rows.model_of(rows.model_row(tx, model))
            check_etag(current.name, etag, current.etag)
            wanted = change(current)
            if wanted == current:
                return current
            values = {
                "description": wanted.description,
                "labels": dict(wanted.labels),
                "etag": rows.new_etag(),
                "update_time": self._db.now(),
            }
            tx.execute(sa.update(_TABLE).where(_TABLE.c.id == model).values(**values))
            return rows.model_of(rows.model_row(tx, model))

        return self._db.write(body)

    def delete(self, model: str, etag: str) -> None:
        """See `base.Models.delete`."""

        def body(tx: sa.Connection) -> None:
            check_etag(names.model_name(model), etag, rows.model_row(tx, model).etag)
            for deployment in rows.uses_of(tx, model):
                raise rows.in_use(names.model_name(model), deployment)
            tx.execute(sa.delete(schema.aliases).where(schema.aliases.c.model == model))
            tx.execute(sa.delete(_TABLE).where(_TABLE.c.id == model))

        self._db.write(body)


def insert_model(tx: sa.Connection, model: str, wanted: Model, now: int) -> None:
    """Stores a new model. Raises AlreadyExists."""
    if tx.scalar(sa.select(_TABLE.c.id).where(_TABLE.c.id == model)) is not None:
        name = names.model_name(model)
        raise AlreadyExists(f"{name} exists already: update it, or choose another id", metadata={"name": name})
    values = {
        "id": model,
        "description": wanted.description,
        "labels": dict(wanted.labels),
        "latest_version": 0,
        "etag": rows.new_etag(),
        "create_time": now,
        "update_time": now,
    }
    tx.execute(sa.insert(_TABLE).values(**values))
