"""Brings a database's schema up to date, with alembic. That takes memory which a registry never needs again: one that
serves has it done `in_child`."""

import subprocess
import sys
from collections.abc import Callable
from importlib.resources import files
from typing import Final

import sqlalchemy as sa

from infermesh.errors import ConfigError

HEAD: Final = "0001"
"""The newest revision under `migrations/versions`."""
_LOCK: Final = 0x1FE2E54

Migrate = Callable[[sa.Engine], None]
"""Brings the schema up to date; raises ConfigError for one of another release, DBAPIError if it can't be opened."""


def here(engine: sa.Engine) -> None:
    """Migrates in this process."""
    from alembic import command  # imported where it is used: see above
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(files("infermesh.registry.catalog") / "migrations"))
    try:
        with engine.begin() as connection:
            if engine.dialect.name == "postgresql":  # replicas that start together migrate one after the other
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except CommandError as error:
        raise ConfigError(f"database_url: the database was written by another release: {error}") from error


def in_child(engine: sa.Engine) -> None:
    """Migrates in a process of its own, which ends with the migration. None is started if there is nothing to do."""
    if _revision(engine) == HEAD:
        return
    url = engine.url.render_as_string(hide_password=False)  # by pipe: a command line is for everybody to read
    child = [sys.executable, "-m", "infermesh.registry.catalog.migration_process"]
    done = subprocess.run(child, input=url, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"the migration ended with {done.returncode}"]
        raise ConfigError(lines[-1])


def _revision(engine: sa.Engine) -> str | None:
    """Returns the revision that a database has; None for a new one."""
    with engine.connect() as connection:
        if not sa.inspect(connection).has_table("alembic_version"):
            return None
        return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
