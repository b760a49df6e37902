"""Deployments in SQL. Every change of what is wanted has a generation of its own and starts an operation."""

from collections.abc import Callable

import sqlalchemy as sa
from google.longrunning.operations_pb2 import Operation

from infermesh import names
from infermesh.errors import AlreadyExists, NotFound
from infermesh.registry.catalog import operations, rows, schema
from infermesh.registry.catalog.base import Key
from infermesh.registry.catalog.database import Database
from infermesh.registry.rules.deployments import only_wanted, resolve, wants_the_same
from infermesh.registry.rules.fields import check_etag
from infermesh.v1.deployment_pb2 import Deployment

_TABLE = schema.deployments


class SqlDeployments:
    """Keeps deployments; see `base.Deployments`."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def create(self, deployment: str, wanted: Deployment, key: Key | None) -> Operation:
        """See `base.Deployments.create`."""

        def body(tx: sa.Connection) -> Operation:
            earlier = rows.repeated(tx, key)
            if earlier is not None:
                return operations.fetch(tx, earlier)
            if _find(tx, deployment) is not None:
                name = names.deployment_name(deployment)
                raise AlreadyExists(f"{name} exists already: update it, or choose another id", metadata={"name": name})
            self._insert(tx, deployment, wanted)
            operation = operations.begin(tx, fetch(tx, deployment), self._db.now())
            rows.remember(tx, key, operation, self._db.now())
            rows.changed(tx)
            return operations.fetch(tx, operation)

        return self._db.write(body)

    def _insert(self, tx: sa.Connection, deployment: str, wanted: Deployment) -> None:
        _check_targets(tx, wanted)
        now = self._db.now()
        values = {
            "id": deployment,
            "model": names.parse("models/*", wanted.model)[0],
            "wanted": only_wanted(wanted).SerializeToString(),
            "generation": _next_generation(tx, deployment),
            "etag": rows.new_etag(),
            "create_time": now,
            "update_time": now,
            "observed": 0,
            "status": Deployment(state=Deployment.DEPLOYING).SerializeToString(),
        }
        tx.execute(sa.insert(_TABLE).values(**values))

    def get(self, deployment: str) -> Deployment:
        """See `base.Deployments.get`."""
        return self._db.read(lambda tx: fetch(tx, deployment))

    def page(self, model: str, after: str, limit: int) -> list[Deployment]:
        """See `base.Deployments.page`."""
        query = sa.select(_TABLE).where(_TABLE.c.id > after).order_by(_TABLE.c.id).limit(limit)
        if model:
            query = query.where(_TABLE.c.model == model)
        return self._db.read(lambda tx: [rows.deployment_of(row) for row in tx.execute(query)])

    def update(self, deployment: str, change: Callable[[Deployment], Deployment], etag: str) -> Operation:
        """See `base.Deployments.update`."""

        def body(tx: sa.Connection) -> Operation:
            current = fetch(tx, deployment)
            check_etag(current.name, etag, current.etag)
            wanted = only_wanted(change(only_wanted(current)))
            _check_targets(tx, wanted)
            if wanted != only_wanted(current):
                self._put(tx, deployment, wanted, again=not wants_the_same(wanted, current))
                rows.changed(tx)
            operation = operations.begin(tx, fetch(tx, deployment), self._db.now())
            row = _row(tx, deployment)
            operations.settle(tx, rows.deployment_of(row), row.observed)  # nothing new may be wanted, and long be there
            return operations.fetch(tx, operation)

        return self._db.write(body)

    def _put(self, tx: sa.Connection, deployment: str, wanted: Deployment, *, again: bool) -> None:
        values = {
            "wanted": wanted.SerializeToString(),
            "etag": rows.new_etag(),
            "update_time": self._db.now(),
        }
        if again:
            status = Deployment.FromString(_row(tx, deployment).status)
            status.state, status.reason = Deployment.DEPLOYING, ""
            values |= {"generation": _next_generation(tx, deployment), "status": status.SerializeToString()}
        tx.execute(sa.update(_TABLE).where(_TABLE.c.id == deployment).values(**values))

    def delete(self, deployment: str, etag: str) -> None:
        """See `base.Deployments.delete`."""

        def body(tx: sa.Connection) -> None:
            current = fetch(tx, deployment)
            check_etag(current.name, etag, current.etag)
            operations.supersede(tx, current.name, current.generation + 1, f"{current.name} was deleted")
            tx.execute(sa.delete(_TABLE).where(_TABLE.c.id == deployment))
            rows.changed(tx)

        self._db.write(body)


def fetch(tx: sa.Connection, deployment: str) -> Deployment:
    """Returns a deployment. Raises NotFound."""
    return rows.deployment_of(_row(tx, deployment))


def _row(tx: sa.Connection, deployment: str) -> rows.Row:
    row = _find(tx, deployment)
    if row is None:
        raise NotFound.of("deployment", names.deployment_name(deployment), "list the deployments")
    return row


def _find(tx: sa.Connection, deployment: str) -> rows.Row | None:
    return tx.execute(sa.select(_TABLE).where(_TABLE.c.id == deployment)).one_or_none()


def _check_targets(tx: sa.Connection, wanted: Deployment) -> None:
    (model,) = names.parse("models/*", wanted.model)
    rows.model_row(tx, model)
    numbers, aliases = rows.numbers_of(tx, model), rows.aliases_of(tx, model)
    for target in wanted.traffic:
        resolve(model, target.version, numbers, aliases)


def _next_generation(tx: sa.Connection, deployment: str) -> int:
    table = schema.generations
    last = tx.scalar(sa.select(table.c.last).where(table.c.deployment == deployment))
    if last is None:
        tx.execute(sa.insert(table).values(deployment=deployment, last=1))
        return 1
    tx.execute(sa.update(table).where(table.c.deployment == deployment).values(last=last + 1))
    return int(last) + 1
