"""What the SDK relies on of a registry: run on the real one, in this process, and on the fake of the client's tests."""

import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from infermesh import errors
from infermesh.client import AsyncClient, Retry, signature
from infermesh.mesh.config import load
from infermesh.mesh.server import bind, create_server
from infermesh.registry.catalog.database import Database
from infermesh.registry.changes import Changes
from infermesh.registry.config import RegistryConfig
from infermesh.registry.home import Home
from infermesh.registry.main import add_services
from infermesh.registry.threads import Threads
from tests.unit.client.fake_mesh import FakeMesh

SIGNATURE = signature({"x": ("FP32", [-1, 4])}, {"y": ("FP32", [-1, 2])})
SAMPLE = ({"x": np.ones((1, 4), np.float32)}, {"y": np.ones((1, 2), np.float32)})


@contextlib.asynccontextmanager
async def real_registry(home: Path) -> AsyncIterator[str]:
    """Serves the registry's own servicers over an SQLite file; yields the address."""
    config = load(RegistryConfig, ["--home", str(home)], {}, room="registry")
    with Home(config.home):
        async with _served(config) as address:
            yield address


@contextlib.asynccontextmanager
async def _served(config: RegistryConfig) -> AsyncIterator[str]:
    changes = Changes()
    database = Database(config.database, now=time.time_ns, committed=changes.announce)
    threads = Threads(config.threads, "registry")
    server = create_server()
    process: Any = SimpleNamespace(metrics=CollectorRegistry())
    add_services(server, config, process, database, changes, threads)
    try:
        yield await bind(server, "127.0.0.1:0")
    finally:
        changes.close()
        await server.stop(0)
        threads.close()
        database.close()


@pytest.fixture(params=["fake", "registry"])
async def client(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AsyncClient]:
    async with contextlib.AsyncExitStack() as stack:
        if request.param == "fake":
            address = (await stack.enter_async_context(FakeMesh())).address
        else:
            address = await stack.enter_async_context(real_registry(tmp_path))
        yield await stack.enter_async_context(AsyncClient(address, timeout=10, retry=Retry(first=0.001)))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.pt"
    path.write_bytes(b"weights" * 300_000)
    return path


async def test_versions_count_up_and_keep_what_was_pushed(client: AsyncClient, file: Path) -> None:
    for number in ("1", "2"):
        pushed = await client.push("digits", file, signature=SIGNATURE, samples=[SAMPLE], labels={"n": number})
        assert pushed.name == f"models/digits/versions/{number}"
    version = await client.get_version("digits")
    assert (version.name, version.backend, dict(version.labels)) == ("models/digits/versions/2", "torch", {"n": "2"})
    assert version.signature == SIGNATURE
    assert version.digest.startswith("sha256:")
    assert [f.size_bytes for f in version.files] == [2_100_000]
    assert [v.name[-1] async for v in client.versions("digits")] == ["2", "1"]
    assert (await client.get_model("digits")).latest_version == 2


async def test_bytes_are_sent_once(client: AsyncClient, file: Path) -> None:
    seen: list[int] = []
    for _ in range(2):
        seen.append(0)
        await client.push("digits", file, signature=SIGNATURE, progress=lambda sent, total: seen.append(sent))
    assert seen.count(2_100_000) >= 2
    assert seen[-2:] == [0, 2_100_000]


async def test_an_upload_is_taken_up_where_it_stood(client: AsyncClient, file: Path) -> None:
    def cut(sent: int, total: int) -> None:
        if sent == 1_048_576:
            raise KeyError("the caller's own trouble")

    with pytest.raises(KeyError):
        await client.push("digits", file, signature=SIGNATURE, progress=cut)
    seen: list[int] = []
    await client.push("digits", file, signature=SIGNATURE, progress=lambda sent, total: seen.append(sent))
    assert seen[-1] == 2_100_000


async def test_empty_files_are_kept(client: AsyncClient, tmp_path: Path) -> None:
    folder = tmp_path / "version"
    folder.mkdir()
    for name, content in (("model.pt", b"x"), ("empty.txt", b"")):
        (folder / name).write_bytes(content)
    pushed = await client.push("digits", folder, signature=SIGNATURE)
    assert {f.path: f.size_bytes for f in pushed.files} == {"model.pt": 1, "empty.txt": 0}


async def test_aliases_move_by_compare_and_swap(client: AsyncClient, file: Path) -> None:
    for _ in range(2):
        await client.push("digits", file, signature=SIGNATURE)
    await client.set_alias("digits", "prod", 1, expected="none")
    for expected in ("none", 2):
        with pytest.raises(errors.Conflict):
            await client.set_alias("digits", "prod", 2, expected=expected)
    await client.set_alias("digits", "prod", 2, expected=1)
    assert (await client.get_version("digits", "prod")).name.endswith("/2")
    with pytest.raises(errors.FailedPrecondition):
        await client.delete_version("digits", 2)
    await client.delete_alias("digits", "prod")
    await client.delete_version("digits", 2)
    assert [a async for a in client.aliases("digits")] == []


@pytest.mark.parametrize(
    "call",
    [
        lambda c: c.get_model("x"),
        lambda c: c.get_version("x"),
        lambda c: c.get_version("x", 3),
        lambda c: c.get_alias("x", "prod"),
        lambda c: c.set_alias("x", "prod", 1),
        lambda c: c.delete_alias("x", "prod"),
        lambda c: c.delete_version("x", 1),
        lambda c: c.delete_model("x"),
        lambda c: c.get_deployment("x"),
        lambda c: c.undeploy("x"),
        lambda c: c.deploy("x", wait=False),
    ],
)
async def test_what_is_unknown_is_not_found(client: AsyncClient, call: Any) -> None:
    with pytest.raises(errors.NotFound) as caught:
        await call(client)
    assert caught.value.reason.endswith("_NOT_FOUND")


async def test_deployments_are_created_once_and_changed_by_mask(client: AsyncClient, file: Path) -> None:
    await client.push("digits", file, signature=SIGNATURE)
    await client.push("digits", file, signature=SIGNATURE)
    first = await client.deploy("shop", "digits", traffic={"1": 90, "2": 10}, replicas=2, policy="random", wait=False)
    assert (first.model, first.replicas, first.policy) == ("models/digits", 2, "random")
    second = await client.deploy("shop", version=2, wait=False)
    assert [(t.version, t.weight) for t in second.traffic] == [("2", 100)]
    assert (second.replicas, second.policy) == (2, "random")
    assert second.generation > first.generation
    assert [d.name async for d in client.deployments(model="digits")] == ["deployments/shop"]
    await client.undeploy("shop")
    assert [d async for d in client.deployments()] == []


async def test_patience_with_a_deployment_that_nobody_carries_out(tmp_path: Path, file: Path) -> None:
    async with real_registry(tmp_path / "home") as address, AsyncClient(address) as client:
        await client.push("digits", file, signature=SIGNATURE)
        with pytest.raises(errors.DeadlineExceeded, match="'digits' is not ready after"):
            await client.deploy("digits", timeout=0.2)
