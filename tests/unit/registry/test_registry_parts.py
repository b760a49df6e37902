"""The small parts: threads, changes, the database's promises, settings."""

import asyncio
import os
import sqlite3
import sys
import threading
from importlib.resources import files
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.script import ScriptDirectory
from sqlalchemy.exc import OperationalError

from infermesh.errors import ConfigError, NotReady, Overloaded
from infermesh.mesh.config import load
from infermesh.registry.catalog import migrate
from infermesh.registry.catalog.database import Database, open_engine
from infermesh.registry.changes import Changes
from infermesh.registry.config import RegistryConfig
from infermesh.registry.home import Home
from infermesh.registry.threads import Threads


async def test_a_cancelled_call_is_over_when_the_cancellation_is(threads: Threads) -> None:
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go_on.wait(10)
        ended.set()

    task = asyncio.create_task(threads.run(work))
    await asyncio.to_thread(begun.wait, 10)
    for _ in range(2):
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_calls_run_off_the_event_loop_and_bring_their_errors(threads: Threads) -> None:
    assert await threads.run(threading.get_ident) != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        await threads.run(lambda: 1 // 0)
    items = iter([1, 2])
    assert [await threads.next(items) for _ in range(3)] == [1, 2, None]


async def test_a_change_between_looking_and_waiting_is_not_missed(changes: Changes) -> None:
    mark = changes.mark
    threading.Thread(target=changes.announce).start()
    await changes.wait(mark)
    assert changes.mark == mark + 1
    await changes.wait(mark)  # it was before: no waiting


async def test_all_who_wait_are_woken_and_nobody_waits_after_the_end(changes: Changes) -> None:
    waiters = [asyncio.create_task(changes.wait(changes.mark)) for _ in range(3)]
    await asyncio.sleep(0)
    changes.announce()
    await asyncio.gather(*waiters)
    changes.close()
    await changes.wait(changes.mark)
    assert changes.closed


async def test_waiting_ends_with_its_timeout(changes: Changes) -> None:
    mark = changes.mark
    await changes.wait(mark, 0.0)
    assert changes.mark == mark


def test_a_late_change_of_a_loop_that_is_gone_is_nobodys() -> None:
    async def make() -> Changes:
        return Changes()

    asyncio.run(make()).announce()


async def test_sqlite_is_set_up_to_survive(database: Database) -> None:
    def pragmas(tx: sa.Connection) -> list[object]:
        names = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        return [tx.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names]

    assert database.read(pragmas) == ["wal", 2, 1, 10_000]  # 2 is FULL
    assert not database.shared


async def test_a_write_that_fails_leaves_nothing_and_tells_nobody(database: Database, changes: Changes) -> None:
    def fail(tx: sa.Connection) -> None:
        tx.exec_driver_sql("UPDATE desired SET revision = 99")
        raise RuntimeError("half-way")

    await asyncio.sleep(0)
    mark = changes.mark
    with pytest.raises(RuntimeError):
        database.write(fail)
    await asyncio.sleep(0)
    assert changes.mark == mark
    assert database.read(lambda tx: tx.exec_driver_sql("SELECT revision FROM desired").scalar()) == 1


async def test_a_read_sees_one_moment(database: Database) -> None:
    def look_twice(tx: sa.Connection) -> tuple[object, object]:
        first = tx.exec_driver_sql("SELECT revision FROM desired").scalar()
        other = threading.Thread(
            target=database.write, args=(lambda tx: tx.exec_driver_sql("UPDATE desired SET revision = revision + 1"),)
        )
        other.start()
        other.join()
        return first, tx.exec_driver_sql("SELECT revision FROM desired").scalar()

    assert database.read(look_twice) == (1, 1)
    assert database.read(lambda tx: tx.exec_driver_sql("SELECT revision FROM desired").scalar()) == 2


async def test_a_database_that_does_not_answer_is_not_ready(database: Database, tmp_path: Path) -> None:
    database.read(lambda tx: tx.exec_driver_sql("PRAGMA busy_timeout = 0"))
    other = sqlite3.connect(tmp_path / "registry.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(NotReady):
        database.write(lambda tx: None)
    other.execute("ROLLBACK")
    other.close()
    database.write(lambda tx: None)


async def test_a_full_disk_is_overload(database: Database) -> None:
    def fill(tx: sa.Connection) -> None:
        tx.exec_driver_sql("PRAGMA max_page_count = 1")
        tx.exec_driver_sql("CREATE TABLE more AS SELECT randomblob(1000000) AS data")

    with pytest.raises(Overloaded, match="disk is full"):
        database.write(fill)


async def test_a_fault_of_ours_is_not_taken_for_the_databases(database: Database) -> None:
    with pytest.raises(OperationalError):
        database.read(lambda tx: tx.exec_driver_sql("SELECT 1 FROM nowhere"))


@pytest.mark.parametrize(
    "url", ["", "nonsense", "mysql://host/db", "nosuch://host/db", "sqlite:////no/such/folder/x.db"]
)
def test_a_bad_database_url_is_a_bad_setting(url: str) -> None:
    with pytest.raises(ConfigError, match="database_url"):
        Database(url, now=lambda: 0)


@pytest.mark.parametrize("migrating", [migrate.here, migrate.in_child])
def test_a_database_of_another_release_is_refused(tmp_path: Path, migrating: migrate.Migrate) -> None:
    url = f"sqlite:///{tmp_path / 'registry.db'}"
    database = Database(url, now=lambda: 0, migrate=migrating)
    database.write(lambda tx: tx.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'"))
    database.close()
    with pytest.raises(ConfigError, match="another release"):
        Database(url, now=lambda: 0, migrate=migrating)


def test_a_database_that_is_up_to_date_needs_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path / 'registry.db'}"
    Database(url, now=lambda: 0).close()
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    Database(url, now=lambda: 0, migrate=migrate.in_child).close()


def test_the_newest_revision_is_the_one_that_is_looked_for() -> None:
    folder = files("infermesh.registry.catalog") / "migrations"
    assert ScriptDirectory(str(folder)).get_current_head() == migrate.HEAD


def test_everything_lies_in_the_home_unless_told_otherwise(tmp_path: Path) -> None:
    config = load(RegistryConfig, ["--home", str(tmp_path)], {}, room="registry")
    assert config.database == f"sqlite:///{tmp_path}/registry.db"
    assert config.artifact_store == str(tmp_path / "artifacts")
    arguments = ["--database-url", "postgresql+psycopg://u:secret@host/db", "--artifacts", "folder:/data"]
    config = load(RegistryConfig, arguments, {}, room="registry")
    assert (config.database, config.artifact_store) == (arguments[1], "folder:/data")
    assert "secret" not in repr(config)


def test_a_database_driver_that_is_not_installed_is_named_with_its_cure() -> None:
    with pytest.raises(ConfigError, match=r"pg8000 is not installed: pip install 'infermesh\[postgres\]'"):
        open_engine("postgresql+pg8000://me@host/db")


@pytest.mark.parametrize(
    "arguments", [["--threads", "0"], ["--uploads-ttl", "0"], ["--uploads-sweep-interval", "x"], ["--colour", "red"]]
)
def test_bad_settings_are_named(arguments: list[str]) -> None:
    with pytest.raises(ConfigError, match=arguments[0].removeprefix("--").partition("-")[0]):
        load(RegistryConfig, arguments, {}, room="registry")


def test_a_home_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="file/home"), Home(str(tmp_path / "file" / "home")):
        pass


def test_a_home_is_locked_with_the_holders_number_and_free_again_after(tmp_path: Path) -> None:
    for _ in range(2):
        with (
            Home(str(tmp_path)),
            pytest.raises(ConfigError, match=f"process {os.getpid()}"),
            Home(str(tmp_path)),
        ):
            pass
