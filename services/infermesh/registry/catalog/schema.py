"""The tables. Portable: no type or clause that SQLite and PostgreSQL do not share.

Resources are kept as their protobuf message next to the columns that are searched by, so a new field of a message needs
no migration. Times are nanoseconds since 1970. A change here needs a migration; a test compares the two.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

models = Table(
    "models",
    metadata,
    Column("id", String(63), primary_key=True),
    Column("description", Text, nullable=False),
    Column("labels", JSON, nullable=False),
    Column("latest_version", BigInteger, nullable=False),  # highest ever given out; never falls
    Column("etag", String(32), nullable=False),
    Column("create_time", BigInteger, nullable=False),
    Column("update_time", BigInteger, nullable=False),
)

versions = Table(
    "versions",
    metadata,
    Column("model", String(63), ForeignKey("models.id", ondelete="CASCADE"), primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("digest", String(71), nullable=False),
    Column("message", LargeBinary, nullable=False),  # ModelVersion without samples
    Column("samples", LargeBinary, nullable=False),  # ModelVersion with nothing but samples: up to 8 MiB, rarely read
)

aliases = Table(
    "aliases",
    metadata,
    Column("model", String(63), ForeignKey("models.id", ondelete="CASCADE"), primary_key=True),
    Column("id", String(63), primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("etag", String(32), nullable=False),
    Column("update_time", BigInteger, nullable=False),
    ForeignKeyConstraint(["model", "number"], ["versions.model", "versions.number"], name="fk_aliases_version"),
)

deployments = Table(
    "deployments",
    metadata,
    Column("id", String(63), primary_key=True),
    Column("model", String(63), ForeignKey("models.id"), nullable=False, index=True),
    Column("wanted", LargeBinary, nullable=False),  # Deployment: what the caller decides
    Column("generation", BigInteger, nullable=False),
    Column("etag", String(32), nullable=False),
    Column("create_time", BigInteger, nullable=False),
    Column("update_time", BigInteger, nullable=False),
    Column("observed", BigInteger, nullable=False),  # generation that `status` is about
    Column("status", LargeBinary, nullable=False),  # Deployment: state, reason and versions, as reported
)

# Outlives its deployment, so that a late report on a deleted one is never taken for its successor of the same name.
generations = Table(
    "generations",
    metadata,
    Column("deployment", String(63), primary_key=True),
    Column("last", BigInteger, nullable=False),
)

operations = Table(
    "operations",
    metadata,
    Column("id", String(63), primary_key=True),
    Column("deployment", String(63), nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("done", Boolean, nullable=False),
    Column("message", LargeBinary, nullable=False),  # google.longrunning.Operation as of its beginning or end
    Index("ix_operations_deployment_done", "deployment", "done"),
)

requests = Table(
    "requests",
    metadata,
    Column("id", String(63), primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("resource", String(255), nullable=False),  # id of what was created
    Column("create_time", BigInteger, nullable=False, index=True),
)

uploads = Table(
    "uploads",
    metadata,
    Column("id", String(63), primary_key=True),
    Column("digest", String(71), nullable=False, index=True),
    Column("size", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=False, index=True),
)

# One row: the revision of what is wanted.
desired = Table(
    "desired",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("revision", BigInteger, nullable=False),
)
