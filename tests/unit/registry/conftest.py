"""A registry's parts around an empty catalog, for tests of what stands on it."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from infermesh.registry.artifacts.memory import MemoryStore
from infermesh.registry.catalog.base import Catalog
from infermesh.registry.catalog.database import Database
from infermesh.registry.catalog.sql import sql_catalog
from infermesh.registry.changes import Changes
from infermesh.registry.threads import Threads
from tests.unit.registry.messages import CONTENT, digest, ticking


@pytest.fixture
async def changes() -> Changes:
    """What watchers wait for."""
    return Changes()


@pytest.fixture
async def database(tmp_path: Path, changes: Changes) -> AsyncIterator[Database]:
    """An empty database that announces its changes."""
    database = Database(f"sqlite:///{tmp_path / 'registry.db'}", now=ticking(), committed=changes.announce)
    yield database
    database.close()


@pytest.fixture
def catalog(database: Database) -> Catalog:
    """A catalog on that database."""
    return sql_catalog(database)


@pytest.fixture
def store() -> MemoryStore:
    """A store that holds the file of `messages.version()`."""
    store = MemoryStore()
    store.finished[digest(CONTENT)] = CONTENT
    return store


@pytest.fixture
def threads() -> Iterator[Threads]:
    """Threads for blocking calls."""
    threads = Threads(2, "test")
    yield threads
    threads.close()
