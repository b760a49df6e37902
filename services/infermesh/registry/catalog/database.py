"""The database under the SQL catalog: connections, transactions, migrations. Used by `sql` and its parts.

Every transaction is serializable: on SQLite a writer takes the only write lock when it begins, on PostgreSQL the
isolation level says so and a transaction that lost is run again.
"""

import sqlite3
import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, NoSuchModuleError, OperationalError

from infermesh.errors import ConfigError, NotReady, Overloaded
from infermesh.registry.catalog import migrate
from infermesh.registry.catalog.migrate import Migrate

T = TypeVar("T")

_BUSY_TIMEOUT_MS: Final = 10_000
_ATTEMPTS: Final = 10
_SERIALIZATION_FAILURES: Final = ("40001", "40P01", "23505")  # 23505: lost the race for a key; the next try sees it
_SQLITE_AWAY: Final = (
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
)


class Database:
    """A migrated database. `committed` is called after every write, in the thread that wrote."""

    def __init__(
        self,
        url: str,
        *,
        now: Callable[[], int],
        committed: Callable[[], None] = lambda: None,
        migrate: Migrate = migrate.here,
    ) -> None:
        """Opens the database at a SQLAlchemy URL and brings its schema up to date; blocks. Raises ConfigError.

        `now` returns nanoseconds since 1970.
        """
        self.now = now
        self._committed = committed
        self._engine = open_engine(url)
        # SQLite lets waiting writers sleep and retry: neither fair nor quick. A lock among our threads is both.
        self._writer = threading.Lock() if self._engine.dialect.name == "sqlite" else None
        try:
            migrate(self._engine)
        except DBAPIError as error:
            raise ConfigError(f"database_url: cannot open the database: {error.orig}") from error

    @property
    def shared(self) -> bool:
        """Whether other processes may write to it too."""
        return self._writer is None

    def read(self, body: Callable[[sa.Connection], T]) -> T:
        """Returns `body(connection)` on a consistent snapshot. Raises NotReady if the database does not answer."""
        return self._run(body, write=False)

    def write(self, body: Callable[[sa.Connection], T]) -> T:
        """Returns `body(connection)` once its writes are on disk; `body` may run again after a lost race."""
        if self._writer is None:
            result = self._run(body, write=True)
        else:
            with self._writer:
                result = self._run(body, write=True)
        self._committed()
        return result

    def close(self) -> None:
        """Closes all connections."""
        self._engine.dispose()

    def _run(self, body: Callable[[sa.Connection], T], *, write: bool) -> T:
        for attempt in range(_ATTEMPTS):
            try:
                with self._engine.connect().execution_options(infermesh_write=write) as connection, connection.begin():
                    return body(connection)
            except DBAPIError as error:
                if getattr(error.orig, "sqlstate", None) in _SERIALIZATION_FAILURES and attempt < _ATTEMPTS - 1:
                    continue
                raise _translated(error) from error
        raise AssertionError("unreachable: the last attempt returns or raises")


def _translated(error: DBAPIError) -> Exception:
    """Returns what a failed transaction means to the caller; the error itself if it is a fault of ours."""
    code = getattr(error.orig, "sqlite_errorcode", None)
    if code is not None and code & 0xFF == sqlite3.SQLITE_FULL:
        return Overloaded("the registry's disk is full: make room")
    away = code & 0xFF in _SQLITE_AWAY if code is not None else isinstance(error, OperationalError | InterfaceError)
    return NotReady("the registry's database does not answer: try again", retry_after=1.0) if away else error


def open_engine(url: str) -> sa.Engine:
    """Returns an engine whose transactions begin as they must. Raises ConfigError for a URL that can't be used."""
    try:
        parsed = sa.make_url(url)
        name = parsed.get_backend_name()
        if name not in ("sqlite", "postgresql"):
            raise ConfigError(f"database_url: expected a sqlite or postgresql URL, got one of '{name}'")
        if name == "sqlite":
            engine = sa.create_engine(parsed)
            sa.event.listen(engine, "connect", _prepare_sqlite)
            sa.event.listen(engine, "begin", _begin_sqlite)
            return engine
        return sa.create_engine(parsed, isolation_level="SERIALIZABLE", pool_pre_ping=True)
    except ModuleNotFoundError as error:
        raise ConfigError(f"database_url: {error.name} is not installed: pip install 'infermesh[postgres]'") from error
    except (ArgumentError, NoSuchModuleError) as error:
        raise ConfigError(f"database_url: not a URL that can be used here: {error}") from error


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver begins nothing by itself: `_begin_sqlite` does
    for pragma in (
        f"busy_timeout = {_BUSY_TIMEOUT_MS}",
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
    ):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: sa.Connection) -> None:
    write = connection.get_execution_options().get("infermesh_write", True)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
