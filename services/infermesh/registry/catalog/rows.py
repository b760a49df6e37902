"""What the parts of the SQL catalog share: rows to messages and back, and the rules that span several tables."""

import secrets
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from google.protobuf.timestamp_pb2 import Timestamp

from infermesh import names
from infermesh.errors import AlreadyExists, FailedPrecondition, NotFound
from infermesh.registry.catalog import schema
from infermesh.registry.catalog.base import Key
from infermesh.v1.deployment_pb2 import Deployment
from infermesh.v1.model_pb2 import Alias, Model, ModelVersion

Row = sa.Row[Any]

_DAY_NS = 24 * 3600 * 10**9


def timestamp(nanoseconds: int) -> Timestamp:
    """Returns nanoseconds since 1970 as a message."""
    stamp = Timestamp()
    stamp.FromNanoseconds(nanoseconds)
    return stamp


def new_etag() -> str:
    """Returns an etag that no resource has had, so that one made anew under an old name does not pass for it."""
    return secrets.token_hex(8)


def model_of(row: Row) -> Model:
    """Returns the message of a row of `models`."""
    return Model(
        name=names.model_name(row.id),
        description=row.description,
        labels=row.labels,
        latest_version=row.latest_version,
        create_time=timestamp(row.create_time),
        update_time=timestamp(row.update_time),
        etag=row.etag,
    )


def alias_of(row: Row) -> Alias:
    """Returns the message of a row of `aliases`."""
    return Alias(
        name=names.alias_name(row.model, row.id),
        version=names.version_name(row.model, row.number),
        update_time=timestamp(row.update_time),
        etag=row.etag,
    )


def deployment_of(row: Row) -> Deployment:
    """Returns the message of a row of `deployments`: what is wanted and what was last reported."""
    deployment = Deployment.FromString(row.wanted)
    deployment.MergeFrom(Deployment.FromString(row.status))
    deployment.name = names.deployment_name(row.id)
    deployment.generation = row.generation
    deployment.etag = row.etag
    deployment.create_time.FromNanoseconds(row.create_time)
    deployment.update_time.FromNanoseconds(row.update_time)
    return deployment


def model_row(tx: sa.Connection, model: str) -> Row:
    """Returns the row of a model. Raises NotFound."""
    row = tx.execute(sa.select(schema.models).where(schema.models.c.id == model)).one_or_none()
    if row is None:
        raise NotFound.of("model", names.model_name(model), "list the models, or push the first version")
    return row


def numbers_of(tx: sa.Connection, model: str) -> list[int]:
    """Returns the numbers of a model's versions, newest first."""
    c = schema.versions.c
    return list(tx.scalars(sa.select(c.number).where(c.model == model).order_by(c.number.desc())))


def aliases_of(tx: sa.Connection, model: str) -> dict[str, int]:
    """Returns the aliases of a model with the numbers that they point at."""
    c = schema.aliases.c
    return {row.id: row.number for row in tx.execute(sa.select(c.id, c.number).where(c.model == model))}


def versions_of(tx: sa.Connection, model: str, numbers: Iterable[int]) -> list[ModelVersion]:
    """Returns versions of a model without samples, newest first."""
    c = schema.versions.c
    query = sa.select(c.message).where(c.model == model, c.number.in_(list(numbers))).order_by(c.number.desc())
    return [ModelVersion.FromString(message) for message in tx.scalars(query)]


def uses_of(tx: sa.Connection, model: str) -> dict[str, set[str]]:
    """Returns the deployments of a model with the versions and aliases that they target, as the caller wrote them."""
    c = schema.deployments.c
    rows = tx.execute(sa.select(c.id, c.wanted).where(c.model == model).order_by(c.id))
    return {row.id: {target.version for target in Deployment.FromString(row.wanted).traffic} for row in rows}


def in_use(name: str, deployment: str) -> FailedPrecondition:
    """Returns the error for deleting what a deployment uses."""
    user = names.deployment_name(deployment)
    return FailedPrecondition(
        f"{name} is in use by {user}: change or delete the deployment first",
        metadata={"name": name, "used_by": user},
        reason="IN_USE",
    )


def changed(tx: sa.Connection, model: str | None = None) -> None:
    """Raises the revision of what is wanted; for a change of a model, only if a deployment shows it."""
    c = schema.deployments.c
    if model is not None and tx.scalar(sa.select(c.id).where(c.model == model).limit(1)) is None:
        return
    tx.execute(sa.update(schema.desired).values(revision=schema.desired.c.revision + 1))


def repeated(tx: sa.Connection, key: Key | None) -> str | None:
    """Returns what an earlier call with this key created; None if there was none.

    Raises AlreadyExists if the id came with another request.
    """
    if key is None:
        return None
    row = tx.execute(sa.select(schema.requests).where(schema.requests.c.id == key.id)).one_or_none()
    if row is None:
        return None
    if row.digest != key.digest:
        raise AlreadyExists(
            f"request_id {key.id} came before with another request: use a new UUID for each request",
            metadata={"request_id": key.id},
            reason="REQUEST_ID_REUSED",
        )
    return str(row.resource)


def remember(tx: sa.Connection, key: Key | None, resource: str, now: int) -> None:
    """Remembers for a day what a call with this key created."""
    if key is None:
        return
    tx.execute(sa.delete(schema.requests).where(schema.requests.c.create_time < now - _DAY_NS))
    values = {"id": key.id, "digest": key.digest, "resource": resource, "create_time": now}
    tx.execute(sa.insert(schema.requests).values(**values))
