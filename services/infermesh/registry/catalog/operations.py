"""Long-running operations in SQL: how they begin, how they end, and how they are read.

An operation follows one generation of one deployment. A newer change of the deployment ends it ABORTED, instead of
being refused while it runs (AIP-151 would refuse): a deployment that hangs on a bad version must be repairable at once.
"""

import secrets

import sqlalchemy as sa
from google.longrunning.operations_pb2 import Operation

from infermesh.errors import Cancelled, Conflict, LoadFailed, MeshError, NotFound
from infermesh.mesh.status import to_status
from infermesh.registry.catalog import rows, schema
from infermesh.registry.catalog.database import Database
from infermesh.v1.deployment_pb2 import Deployment, DeploymentOperationMetadata

_TABLE = schema.operations


class SqlOperations:
    """Keeps operations; see `base.Operations`."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def get(self, operation: str) -> Operation:
        """See `base.Operations.get`."""
        return self._db.read(lambda tx: fetch(tx, operation))

    def page(self, done: bool | None, deployment: str, after: str, limit: int) -> list[Operation]:
        """See `base.Operations.page`."""
        c = _TABLE.c
        query = sa.select(_TABLE).where(c.id > after).order_by(c.id).limit(limit)
        if done is not None:
            query = query.where(c.done == done)
        if deployment:
            query = query.where(c.deployment == deployment)
        return self._db.read(lambda tx: [_operation(tx, row) for row in tx.execute(query)])

    def cancel(self, operation: str) -> None:
        """See `base.Operations.cancel`."""

        def body(tx: sa.Connection) -> None:
            row = _row(tx, operation)
            if not row.done:
                finish(tx, row, Cancelled("the operation was cancelled; the deployment stays as it is wanted"))

        self._db.write(body)

    def delete(self, operation: str) -> None:
        """See `base.Operations.delete`."""

        def body(tx: sa.Connection) -> None:
            _row(tx, operation)
            tx.execute(sa.delete(_TABLE).where(_TABLE.c.id == operation))

        self._db.write(body)


def begin(tx: sa.Connection, deployment: Deployment, now: int) -> str:
    """Stores the operation that brings about a deployment's present generation, and returns its id.

    What runs for an older generation ends ABORTED.
    """
    why = f"superseded by generation {deployment.generation} of {deployment.name}"
    supersede(tx, deployment.name, deployment.generation, why)
    operation_id = f"{now:016x}-{secrets.token_hex(4)}"  # sorts by age
    operation = Operation(name=f"operations/{operation_id}")
    operation.metadata.Pack(_metadata(deployment))
    values = {
        "id": operation_id,
        "deployment": deployment.name.removeprefix("deployments/"),
        "generation": deployment.generation,
        "done": False,
        "message": operation.SerializeToString(),
    }
    tx.execute(sa.insert(_TABLE).values(**values))
    return operation_id


def supersede(tx: sa.Connection, name: str, generation: int, why: str) -> None:
    """Ends what runs for generations of a deployment (its full name) before `generation` as ABORTED."""
    for row in _running(tx, name):
        if row.generation < generation:
            finish(tx, row, Conflict(f"the operation was given up: {why}", reason="SUPERSEDED"))


def settle(tx: sa.Connection, deployment: Deployment, observed: int) -> None:
    """Ends the operations that a report on generation `observed` decides; `deployment` has its state."""
    for row in _running(tx, deployment.name):
        if observed < row.generation:
            continue
        if deployment.state == Deployment.ACTIVE:
            finish(tx, row, deployment)
        elif deployment.state == Deployment.FAILED:
            metadata = {"deployment": deployment.name, "why": deployment.reason}
            text = f"{deployment.name}: {deployment.reason or 'a version could not be loaded'}"
            finish(tx, row, LoadFailed(text, metadata=metadata))


def finish(tx: sa.Connection, row: rows.Row, outcome: Deployment | MeshError) -> None:
    """Ends an operation with its response or its error; the metadata stays as it is at this moment."""
    operation = _operation(tx, row)
    operation.done = True
    if isinstance(outcome, Deployment):
        operation.response.Pack(outcome)
    else:
        operation.error.CopyFrom(to_status(outcome))
    values = {"done": True, "message": operation.SerializeToString()}
    tx.execute(sa.update(_TABLE).where(_TABLE.c.id == row.id).values(**values))


def fetch(tx: sa.Connection, operation: str) -> Operation:
    """Returns an operation. Raises NotFound."""
    return _operation(tx, _row(tx, operation))


def _row(tx: sa.Connection, operation: str) -> rows.Row:
    row = tx.execute(sa.select(_TABLE).where(_TABLE.c.id == operation)).one_or_none()
    if row is None:
        raise NotFound.of("operation", f"operations/{operation}")
    return row


def _running(tx: sa.Connection, name: str) -> list[rows.Row]:
    c = _TABLE.c
    deployment = name.removeprefix("deployments/")
    return list(tx.execute(sa.select(_TABLE).where(c.deployment == deployment, c.done == sa.false())).all())


def _operation(tx: sa.Connection, row: rows.Row) -> Operation:
    operation = Operation.FromString(row.message)
    if not row.done:  # while it runs, the metadata tells how things stand now
        query = sa.select(schema.deployments).where(schema.deployments.c.id == row.deployment)
        current = tx.execute(query).one_or_none()
        if current is not None:
            metadata = _metadata(rows.deployment_of(current))
            metadata.generation = row.generation
            operation.metadata.Pack(metadata)
    return operation


def _metadata(deployment: Deployment) -> DeploymentOperationMetadata:
    return DeploymentOperationMetadata(
        deployment=deployment.name,
        generation=deployment.generation,
        state=deployment.state,
        versions=deployment.versions,
        reason=deployment.reason,
    )
