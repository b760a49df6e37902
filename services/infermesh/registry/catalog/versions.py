"""Versions of models in SQL. A version is written once; its samples lie in a column of their own."""

import sqlalchemy as sa

from infermesh import names
from infermesh.errors import FailedPrecondition, NotFound
from infermesh.registry.catalog import rows, schema
from infermesh.registry.catalog.base import Key
from infermesh.registry.catalog.database import Database
from infermesh.registry.catalog.models import insert_model
from infermesh.registry.rules.deployments import resolve
from infermesh.registry.rules.digests import version_digest
from infermesh.v1.model_pb2 import Model, ModelVersion

_TABLE = schema.versions


class SqlVersions:
    """Keeps versions; see `base.Versions`."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def create(self, model: str, version: ModelVersion, key: Key | None, create_model: bool) -> ModelVersion:
        """See `base.Versions.create`."""

        def body(tx: sa.Connection) -> ModelVersion:
            earlier = rows.repeated(tx, key)
            if earlier is not None:
                owner, number = names.parse("models/*/versions/*", earlier)
                return _version(tx, owner, int(number))
            if create_model and tx.scalar(sa.select(schema.models.c.id).where(schema.models.c.id == model)) is None:
                insert_model(tx, model, Model(), self._db.now())
            stored = self._insert(tx, model, version)
            rows.remember(tx, key, stored.name, self._db.now())
            rows.changed(tx, model)
            return stored

        return self._db.write(body)

    def _insert(self, tx: sa.Connection, model: str, version: ModelVersion) -> ModelVersion:
        now, number = self._db.now(), rows.model_row(tx, model).latest_version + 1
        stored = ModelVersion()
        stored.CopyFrom(version)
        stored.name = names.version_name(model, number)
        stored.digest = version_digest(version)
        stored.create_time.FromNanoseconds(now)
        samples, message = ModelVersion(samples=stored.samples), ModelVersion()
        message.CopyFrom(stored)
        message.ClearField("samples")
        values = {
            "model": model,
            "number": number,
            "digest": stored.digest,
            "message": message.SerializeToString(),
            "samples": samples.SerializeToString(),
        }
        tx.execute(sa.insert(_TABLE).values(**values))
        latest = {"latest_version": number, "etag": rows.new_etag(), "update_time": now}
        tx.execute(sa.update(schema.models).where(schema.models.c.id == model).values(**latest))
        return stored

    def get(self, model: str, version: str) -> ModelVersion:
        """See `base.Versions.get`."""

        def body(tx: sa.Connection) -> ModelVersion:
            if names.is_version(version):
                return _version(tx, model, int(version))
            rows.model_row(tx, model)
            return _version(tx, model, resolve(model, version, rows.numbers_of(tx, model), rows.aliases_of(tx, model)))

        return self._db.read(body)

    def page(self, model: str, before: int, limit: int) -> list[ModelVersion]:
        """See `base.Versions.page`."""
        c = _TABLE.c
        query = sa.select(c.message).where(c.model == model, c.number < before).order_by(c.number.desc()).limit(limit)

        def body(tx: sa.Connection) -> list[ModelVersion]:
            rows.model_row(tx, model)
            return [ModelVersion.FromString(message) for message in tx.scalars(query)]

        return self._db.read(body)

    def delete(self, model: str, number: int) -> None:
        """See `base.Versions.delete`."""
        name = names.version_name(model, number)

        def body(tx: sa.Connection) -> None:
            numbers, aliases = rows.numbers_of(tx, model), rows.aliases_of(tx, model)
            resolve(model, str(number), numbers, aliases)
            for deployment, targets in rows.uses_of(tx, model).items():
                if number in {resolve(model, target, numbers, aliases) for target in targets}:
                    raise rows.in_use(name, deployment)
            for alias, target in aliases.items():
                if target == number:
                    raise _pointed_at(name, names.alias_name(model, alias))
            tx.execute(sa.delete(_TABLE).where(_TABLE.c.model == model, _TABLE.c.number == number))
            rows.changed(tx, model)

        self._db.write(body)


def _version(tx: sa.Connection, model: str, number: int) -> ModelVersion:
    c = _TABLE.c
    query = sa.select(c.message, c.samples).where(c.model == model, c.number == number)
    row = tx.execute(query).one_or_none()
    if row is None:
        rows.model_row(tx, model)  # the model itself may be what is missing
        raise NotFound.of("model version", names.version_name(model, number), "list the versions of the model")
    version = ModelVersion.FromString(row.message)
    version.MergeFromString(row.samples)
    return version


def _pointed_at(name: str, alias: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"{alias} points at {name}: move or delete the alias first",
        metadata={"name": name, "used_by": alias},
        reason="IN_USE",
    )
