"""The SDK and the command line against a whole mesh: what unit tests can only say of a fake one."""

import asyncio
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from infermesh import errors
from infermesh.client import AsyncClient, Client, ModelService, batching
from tests.mesh.models import ROW, answer, samples

pytestmark = pytest.mark.mesh


def test_the_textbook_example(mesh, client, files, fresh_id):
    name = fresh_id("textbook")
    client.push(name, files.torch(3), samples=samples(3))
    s = ModelService()
    s.connect_repository(mesh.gateway)
    s.connect_resource(f"http://{mesh.gateway}")
    m = s.load_model(name)
    s.allocate_resource(m)
    np.testing.assert_array_equal(s.predict(ROW), answer(ROW, 3)["y"])
    s.close()


def test_the_asynchronous_client(mesh, affine):
    async def main():
        async with AsyncClient(mesh.gateway) as client:
            rows = np.random.default_rng(2).random((50, 1, 4), np.float32)
            results = await asyncio.gather(
                *(client.infer(affine, {"x": row}, request_id=f"{i}") for i, row in enumerate(rows))
            )
            return rows, results, [worker.name async for worker in client.workers()]

    rows, results, workers = asyncio.run(main())
    for number, (row, result) in enumerate(zip(rows, results, strict=True)):
        np.testing.assert_array_equal(result["y"], answer(row, 2)["y"])
        assert result.request_id == str(number)
    assert workers == ["workers/worker-1", "workers/worker-2"]


def test_a_stream_of_one_answer(client, affine):
    (result,) = client.infer_stream(affine, {"x": ROW})
    np.testing.assert_array_equal(result["y"], answer(ROW, 2)["y"])
    assert (result.model, result.version) == (affine, "1")


@pytest.mark.parametrize("call", ["infer", "infer_stream"])
@pytest.mark.parametrize(
    ("inputs", "kind", "metadata"),
    [
        ({"x": np.zeros((1, 4))}, errors.BadTensor, {"tensor": "x"}),
        ({"x": np.zeros((1, 5), np.float32)}, errors.BadTensor, {"tensor": "x"}),
        ({"z": ROW}, errors.BadTensor, {}),
        ({}, errors.InvalidInput, {}),
    ],
    ids=["dtype", "shape", "name", "nothing"],
)
def test_bad_input_is_the_same_class_on_both_ways(client, affine, call, inputs, kind, metadata):
    with pytest.raises(kind) as caught:
        list(client.infer_stream(affine, inputs)) if call == "infer_stream" else client.infer(affine, inputs)
    assert metadata.items() <= caught.value.metadata.items()


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.infer("unknown", {"x": ROW}),
        lambda client: list(client.infer_stream("unknown", {"x": ROW})),
        lambda client: client.metadata("unknown"),
        lambda client: client.get_deployment("unknown"),
        lambda client: client.get_version("unknown"),
        lambda client: client.get_alias("unknown", "prod"),
        lambda client: client.undeploy("unknown"),
        lambda client: client.delete_model("unknown"),
        lambda client: list(client.versions("unknown")),
        lambda client: client.deploy("unknown"),
    ],
    ids=["infer", "stream", "metadata", "deployment", "version", "alias", "undeploy", "delete", "versions", "deploy"],
)
def test_what_is_unknown_is_not_found_everywhere(client, call):
    with pytest.raises(errors.NotFound):
        call(client)


def test_readiness_follows_the_deployment(client, files, fresh_id):
    name = fresh_id("ready")
    assert client.live()
    assert client.ready()
    assert not client.ready(name)
    client.push(name, files.torch(2), samples=samples(2))
    client.deploy(name, batching=batching(max_batch_size=4, max_queue=10), policy="least_load", labels={"team": "a"})
    assert client.ready(name)
    assert client.ready(name, "1")
    assert not client.ready(name, "2")
    metadata = client.metadata(name)
    assert [(spec.name, spec.datatype, list(spec.shape)) for spec in metadata.inputs] == [("x", "FP32", [-1, 4])]
    client.undeploy(name)
    with pytest.raises(errors.MeshError):
        client.get_deployment(name)


def test_statistics_count_what_was_sent(client, files, fresh_id):
    name = fresh_id("counted")
    client.push(name, files.onnx(2))
    client.deploy(name)
    for _ in range(7):
        client.infer(name, {"x": np.repeat(ROW, 3, axis=0)})
    (row,) = client.statistics(name)
    assert row.inference_stats.success.count == 7
    assert row.inference_count == 21
    assert 1 <= row.execution_count <= 7


def test_files_are_sent_once(client, files, fresh_id):
    name = fresh_id("again")
    seen = []
    client.push(name, files.torch(5), progress=lambda sent, total: seen.append(sent))
    first, seen[:] = list(seen), []
    second = client.push(name, files.torch(5), progress=lambda sent, total: seen.append(sent))
    assert len(seen) == 1
    assert first[-1] == seen[-1] == sum(file.size_bytes for file in second.files)


def test_listings_beyond_one_page(client, files, fresh_id):
    name = fresh_id("paged")
    for _ in range(3):
        client.push(name, files.torch(2))
    assert [version.name.rpartition("/")[2] for version in client.versions(name)] == ["3", "2", "1"]
    assert [model.name for model in client.models(prefix=name)] == [f"models/{name}"]
    client.delete_model(name)
    assert list(client.models(prefix=name)) == []


def _run(*arguments, cwd, environment=None):
    done = subprocess.run(
        [sys.executable, "-m", "infermesh.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        timeout=120,
        env={**os.environ, **(environment or {})},
    )
    return done.returncode, done.stdout, done.stderr


def test_the_commands_that_look(mesh, affine, tmp_path):
    home = ("--home", str(mesh.home))
    code, out, err = _run("status", *home, "--output", "json", cwd=tmp_path)
    shown = json.loads(out)
    assert (code, err, shown["ready"], shown["gateway"]) == (0, "", True, mesh.gateway)
    assert {worker["name"] for worker in shown["workers"]} == {"workers/worker-1", "workers/worker-2"}
    assert f"deployments/{affine}" in {deployment["name"] for deployment in shown["deployments"]}
    code, out, _ = _run("status", cwd=tmp_path, environment={"INFERMESH_ADDRESS": mesh.gateway})
    assert code == 0
    assert "worker-1" in out
    code, out, _ = _run("logs", "registry", *home, "--output", "json", cwd=tmp_path)
    assert code == 0
    assert any(json.loads(line)["event"] == "ready" for line in out.splitlines())
    code, out, _ = _run("stats", affine, *home, "-o", "json", cwd=tmp_path)
    assert (code, json.loads(out)[0]["name"]) == (0, affine)


def test_the_commands_that_change(mesh, files, fresh_id, tmp_path):
    name, at = fresh_id("typed"), ("-a", mesh.gateway)
    np.savez(tmp_path / "sample.npz", x=ROW, y=answer(ROW, 2)["y"])
    pushed = _run("push", str(files.torch(2)), "--name", name, "--sample", "sample.npz", *at, cwd=tmp_path)
    assert pushed[0] == 0, pushed
    assert f"infermesh deploy {name} --version 1" in pushed[1]
    assert _run("alias", "set", name, "prod", "1", *at, cwd=tmp_path)[0] == 0
    assert _run("deploy", name, "--version", "prod", *at, cwd=tmp_path)[0] == 0
    code, out, _ = _run("infer", name, "x=[[0, 1, 2, 3]]", "-o", "json", *at, cwd=tmp_path)
    assert (code, json.loads(out)["outputs"]) == (0, {"y": [[1, 3, 5, 7]]})
    refused = _run("delete", name, "--yes", *at, cwd=tmp_path)
    assert refused[0] == 1
    assert refused[2].startswith("error: ")
    assert refused[2].count("\n") == 1
    assert _run("undeploy", name, *at, cwd=tmp_path)[0] == 0
    assert _run("delete", name, "--yes", *at, cwd=tmp_path)[0] == 0


def test_a_gateway_that_goes_away_is_a_typed_error(make_mesh):
    mesh = make_mesh(workers=1)
    with Client(mesh.gateway, timeout=5) as client:
        assert client.live()
        mesh.kill("gateway")
        with pytest.raises(errors.NotReady):
            client.infer("any", {"x": ROW})
        assert not client.live()
        mesh.restart("gateway")
        assert client.live()
