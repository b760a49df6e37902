"""Fixtures of the client's tests: a fake mesh in the test's event loop, and clients of it."""

from collections.abc import AsyncIterator

import pytest

from infermesh.client import AsyncClient, Retry
from tests.unit.client.fake_mesh import FakeMesh

QUICK = Retry(first=0.001, most=0.01)


@pytest.fixture
async def mesh() -> AsyncIterator[FakeMesh]:
    async with FakeMesh() as fake:
        yield fake


@pytest.fixture
async def client(mesh: FakeMesh) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(mesh.address, timeout=10, retry=QUICK) as connected:
        yield connected
