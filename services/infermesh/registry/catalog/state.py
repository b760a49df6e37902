"""What is wanted, for the scheduler, and what became of it, from the scheduler; in SQL."""

from collections.abc import Sequence

import sqlalchemy as sa

from infermesh import names
from infermesh.registry.catalog import operations, rows, schema
from infermesh.registry.catalog.database import Database
from infermesh.registry.rules.deployments import resolve
from infermesh.v1.deployment_pb2 import Deployment
from infermesh.v1.state_service_pb2 import DeploymentReport, DesiredDeployment, DesiredState, ResolvedTarget

_TABLE = schema.deployments
_MORE_VERSIONS = 10


class SqlState:
    """Tells what is wanted and takes reports; see `base.State`."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def revision(self) -> int:
        """See `base.State.revision`."""
        return self._db.read(_revision)

    def desired(self) -> DesiredState:
        """See `base.State.desired`."""

        def body(tx: sa.Connection) -> DesiredState:
            wanted = tx.execute(sa.select(_TABLE).order_by(_TABLE.c.id)).all()
            return DesiredState(revision=_revision(tx), deployments=[_desired(tx, row) for row in wanted])

        return self._db.read(body)

    def report(self, reports: Sequence[DeploymentReport]) -> None:
        """See `base.State.report`."""
        # Reports come with every heartbeat and mostly say nothing new: look first, so that an idle mesh writes nothing.
        if self._db.read(lambda tx: any(_news(tx, report) is not None for report in reports)):
            self._db.write(lambda tx: _apply(tx, reports))


def _revision(tx: sa.Connection) -> int:
    return int(tx.scalar(sa.select(schema.desired.c.revision)) or 0)


def _desired(tx: sa.Connection, row: rows.Row) -> DesiredDeployment:
    deployment = rows.deployment_of(row)
    for field in ("state", "reason", "versions"):  # what is, not what is wanted; one revision has one content
        deployment.ClearField(field)
    numbers, aliases = rows.numbers_of(tx, row.model), rows.aliases_of(tx, row.model)
    targets = [
        ResolvedTarget(version=str(resolve(row.model, target.version, numbers, aliases)), weight=target.weight)
        for target in deployment.traffic
    ]
    needed = {int(target.version) for target in targets} | set(aliases.values())
    needed |= set([number for number in numbers if number not in needed][:_MORE_VERSIONS])
    return DesiredDeployment(
        deployment=deployment,
        targets=targets,
        versions=rows.versions_of(tx, row.model, needed),
        aliases={alias: str(number) for alias, number in aliases.items()},
    )


def _news(tx: sa.Connection, report: DeploymentReport) -> tuple[rows.Row, bytes, int] | None:
    """Returns the row that a report changes, its new status and the generation observed; None if nothing changes."""
    (deployment,) = names.parse("deployments/*", report.name)
    row = tx.execute(sa.select(_TABLE).where(_TABLE.c.id == deployment)).one_or_none()
    if row is None:
        return None
    status, observed = Deployment.FromString(row.status), row.observed
    if report.generation >= row.generation:
        status = Deployment(state=report.state, reason=report.reason, versions=report.versions)
        observed = row.generation  # never more: a generation to come has not been observed
    else:  # it does not know the newest generation yet: its verdict is on another one, what versions do still counts
        status.ClearField("versions")
        status.versions.extend(report.versions)
    content = status.SerializeToString()
    return None if (content, observed) == (row.status, row.observed) else (row, content, observed)


def _apply(tx: sa.Connection, reports: Sequence[DeploymentReport]) -> None:
    for report in reports:
        news = _news(tx, report)
        if news is None:
            continue
        row, status, observed = news
        tx.execute(sa.update(_TABLE).where(_TABLE.c.id == row.id).values(status=status, observed=observed))
        current = tx.execute(sa.select(_TABLE).where(_TABLE.c.id == row.id)).one()
        operations.settle(tx, rows.deployment_of(current), observed)
