"""Aliases in SQL. A move is one transaction: read, compare, write."""

import sqlalchemy as sa

from infermesh import names
from infermesh.errors import Conflict, NotFound
from infermesh.registry.catalog import rows, schema
from infermesh.registry.catalog.database import Database
from infermesh.registry.rules.deployments import resolve
from infermesh.registry.rules.fields import check_etag
from infermesh.v1.model_pb2 import Alias

_TABLE = schema.aliases
_NONE = "none"


class SqlAliases:
    """Keeps aliases; see `base.Aliases`."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def set(self, model: str, alias: str, number: int, expected: str, etag: str) -> Alias:
        """See `base.Aliases.set`."""

        def body(tx: sa.Connection) -> Alias:
            rows.model_row(tx, model)
            row = _row(tx, model, alias)
            _compare(names.alias_name(model, alias), row, expected, etag)
            resolve(model, str(number), rows.numbers_of(tx, model), {})
            if row is None or row.number != number:
                self._put(tx, model, alias, number, new=row is None)
                rows.changed(tx, model)
            return _alias(tx, model, alias)

        return self._db.write(body)

    def _put(self, tx: sa.Connection, model: str, alias: str, number: int, *, new: bool) -> None:
        values = {"number": number, "etag": rows.new_etag(), "update_time": self._db.now()}
        if new:
            tx.execute(sa.insert(_TABLE).values(model=model, id=alias, **values))
        else:
            tx.execute(sa.update(_TABLE).where(_TABLE.c.model == model, _TABLE.c.id == alias).values(**values))

    def get(self, model: str, alias: str) -> Alias:
        """See `base.Aliases.get`."""
        return self._db.read(lambda tx: _alias(tx, model, alias))

    def page(self, model: str, after: str, limit: int) -> list[Alias]:
        """See `base.Aliases.page`."""
        c = _TABLE.c
        query = sa.select(_TABLE).where(c.model == model, c.id > after).order_by(c.id).limit(limit)

        def body(tx: sa.Connection) -> list[Alias]:
            rows.model_row(tx, model)
            return [rows.alias_of(row) for row in tx.execute(query)]

        return self._db.read(body)

    def delete(self, model: str, alias: str, etag: str) -> None:
        """See `base.Aliases.delete`."""

        def body(tx: sa.Connection) -> None:
            current = _alias(tx, model, alias)
            check_etag(current.name, etag, current.etag)
            for deployment, targets in rows.uses_of(tx, model).items():
                if alias in targets:
                    raise rows.in_use(current.name, deployment)
            tx.execute(sa.delete(_TABLE).where(_TABLE.c.model == model, _TABLE.c.id == alias))
            rows.changed(tx, model)

        self._db.write(body)


def _row(tx: sa.Connection, model: str, alias: str) -> rows.Row | None:
    return tx.execute(sa.select(_TABLE).where(_TABLE.c.model == model, _TABLE.c.id == alias)).one_or_none()


def _alias(tx: sa.Connection, model: str, alias: str) -> Alias:
    row = _row(tx, model, alias)
    if row is None:
        rows.model_row(tx, model)  # the model itself may be what is missing
        raise NotFound.of("alias", names.alias_name(model, alias), "list the aliases of the model")
    return rows.alias_of(row)


def _compare(name: str, row: rows.Row | None, expected: str, etag: str) -> None:
    if etag:
        check_etag(name, etag, row.etag if row is not None else "")
    actual = str(row.number) if row is not None else _NONE
    if expected and expected != actual:
        raise Conflict(
            f"{name}: expected it at {expected}, it is at {actual}; look where it points now and decide again",
            metadata={"name": name, "expected": expected, "actual": actual},
            reason="ALIAS_MOVED",
        )
