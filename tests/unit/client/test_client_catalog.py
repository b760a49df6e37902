"""Push, models, versions and aliases."""

from pathlib import Path

import numpy as np
import pytest

from infermesh import errors
from infermesh.client import AsyncClient, signature
from tests.unit.client.fake_mesh import FakeMesh

CONTENT = b"weights" * 1000
SIGNATURE = signature({"x": ("FP32", [-1, 4])}, {"y": ("FP32", [-1, 2])})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.pt"
    path.write_bytes(CONTENT)
    return path


async def test_push_creates_model_and_version(client: AsyncClient, mesh: FakeMesh, file: Path) -> None:
    sample = ({"x": np.zeros((1, 4), np.float32)}, {"y": np.zeros((1, 2), np.float32)})
    version = await client.push(
        "digits",
        file,
        signature=SIGNATURE,
        samples=[sample],
        max_batch_size=8,
        device="cpu",
        memory_bytes=5,
        labels={"team": "a"},
        options={"k": "v"},
    )
    assert version.name == "models/digits/versions/1"
    stored = mesh.models.versions[version.name]
    assert (stored.backend, stored.max_batch_size, stored.device, stored.memory_bytes) == ("torch", 8, "cpu", 5)
    assert dict(stored.labels) == {"team": "a"}
    assert dict(stored.options) == {"k": "v"}
    assert stored.samples[0].outputs[0].name == "y"
    (described,) = stored.files
    assert (described.path, described.size_bytes) == ("model.pt", 7000)
    assert mesh.artifacts.files[described.digest] == CONTENT


async def test_what_is_there_is_not_sent_again(client: AsyncClient, mesh: FakeMesh, file: Path) -> None:
    await client.push("digits", file, signature=SIGNATURE)
    sent = mesh.artifacts.received
    seen: list[tuple[int, int]] = []
    version = await client.push(
        "digits", file, signature=SIGNATURE, progress=lambda done, total: seen.append((done, total))
    )
    assert version.name.endswith("/2")
    assert mesh.artifacts.received == sent
    assert seen == [(7000, 7000)]


async def test_a_folder_keeps_its_paths(client: AsyncClient, mesh: FakeMesh, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "words.txt").write_text("a b")
    (tmp_path / "model.py").write_text("class Model: ...")
    version = await client.push("words", tmp_path, signature=SIGNATURE)
    assert [described.path for described in version.files] == ["data/words.txt", "model.py"]
    assert version.backend == "python"
    assert version.options["class"] == "model:Model"


async def test_creating_is_repeated_under_one_request_id(client: AsyncClient, mesh: FakeMesh, file: Path) -> None:
    mesh.models.failures = [errors.NotReady("registry away")]
    await client.push("digits", file, signature=SIGNATURE)
    first, second = mesh.models.request_ids
    assert first == second
    assert len(first) == 36


async def test_a_bad_id_sends_nothing(client: AsyncClient, mesh: FakeMesh, file: Path) -> None:
    with pytest.raises(errors.InvalidInput, match="model id"):
        await client.push("Digits!", file, signature=SIGNATURE)
    assert not mesh.artifacts.received


async def test_listings_go_through_all_pages(client: AsyncClient, mesh: FakeMesh) -> None:
    for number in range(5):
        mesh.add_version(f"m{number}")
    for number in range(2, 6):
        mesh.add_version("m0", number)
    assert [model.name async for model in client.models()] == [f"models/m{n}" for n in range(5)]
    assert [model.name async for model in client.models(prefix="m3")] == ["models/m3"]
    assert [version.name[-1] async for version in client.versions("m0")] == ["5", "4", "3", "2", "1"]
    with pytest.raises(errors.NotFound):
        [version async for version in client.versions("other")]


async def test_aliases_move_by_compare_and_swap(client: AsyncClient, mesh: FakeMesh) -> None:
    mesh.add_version("digits", 1)
    mesh.add_version("digits", 2)
    await client.set_alias("digits", "prod", 1, expected="none")
    with pytest.raises(errors.Conflict):
        await client.set_alias("digits", "prod", 2, expected="none")
    with pytest.raises(errors.Conflict):
        await client.set_alias("digits", "prod", 2, expected=2)
    await client.set_alias("digits", "prod", 2, expected=1)
    assert (await client.get_alias("digits", "prod")).version == "models/digits/versions/2"
    assert (await client.get_version("digits", "prod")).name == "models/digits/versions/2"
    assert [alias.name async for alias in client.aliases("digits")] == ["models/digits/aliases/prod"]
    with pytest.raises(errors.FailedPrecondition):
        await client.delete_version("digits", 2)
    await client.delete_alias("digits", "prod")
    await client.delete_version("digits", 2)
    with pytest.raises(errors.NotFound):
        await client.get_alias("digits", "prod")
    await client.delete_model("digits")
    assert [model async for model in client.models()] == []


async def test_an_alias_may_not_look_like_a_version(client: AsyncClient) -> None:
    with pytest.raises(errors.InvalidInput, match="alias"):
        await client.set_alias("digits", "7", 1)
