"""From a pushed file to an answer, through every process: our client, and the field's clients unmodified."""

import json
import subprocess
import sys
import urllib.error
import urllib.request

import numpy as np
import pytest

from infermesh import errors
from tests.mesh.models import ROW, answer, samples


@pytest.mark.parametrize("backend", ["torch", "onnx"])
def test_a_pushed_file_answers(client, files, fresh_id, backend):
    name = fresh_id(backend)
    pushed = client.push(name, getattr(files, backend)(3), samples=samples(3))
    assert pushed.name == f"models/{name}/versions/1"
    assert pushed.backend == backend
    assert [(spec.name, spec.datatype, list(spec.shape)) for spec in pushed.signature.inputs] == [
        ("x", "FP32", [-1, 4])
    ]
    deployed = client.deploy(name, version=1)
    assert [(version.version, version.ready_replicas) for version in deployed.versions] == [("1", 1)]
    result = client.infer(name, {"x": ROW})
    np.testing.assert_array_equal(result["y"], answer(ROW, 3)["y"])
    assert (result.model, result.version) == (name, "1")


def test_many_rows_come_back_in_their_order(client, affine):
    rows = np.random.default_rng(0).random((64, 4), np.float32)
    np.testing.assert_array_equal(client.infer(affine, {"x": rows})["y"], answer(rows, 2)["y"])


def test_many_callers_each_get_their_own_answer(client, affine):
    rows = np.random.default_rng(1).random((500, 1, 4), np.float32)
    futures = [client.infer_async(affine, {"x": row}) for row in rows]
    for row, future in zip(rows, futures, strict=True):
        np.testing.assert_array_equal(future.result(60)["y"], answer(row, 2)["y"])


def test_traffic_is_shared_by_weight(client, files, fresh_id):
    name = fresh_id("split")
    client.push(name, files.onnx(2), samples=samples(2))
    client.push(name, files.onnx(3), samples=samples(3))
    client.deploy(name, traffic={"1": 70, "2": 30}, replicas=2)
    futures = [client.infer_async(name, {"x": ROW}) for _ in range(1_000)]
    versions = [future.result(60).version for future in futures]
    share = versions.count("2") / len(versions)
    assert abs(share - 0.3) < 5 * (0.3 * 0.7 / 1_000) ** 0.5, "outside five standard deviations"
    for version, scale in (("1", 2), ("2", 3)):
        result = client.infer(name, {"x": ROW}, version=version)
        assert result.version == version
        np.testing.assert_array_equal(result["y"], answer(ROW, scale)["y"])


def test_a_version_may_be_named_by_alias_and_latest(client, files, fresh_id):
    name = fresh_id("alias")
    client.push(name, files.onnx(2))
    client.push(name, files.onnx(3))
    client.set_alias(name, "prod", 1)
    client.deploy(name, traffic={"prod": 1, "latest": 0})
    assert client.infer(name, {"x": ROW}, version="prod").version == "1"
    assert client.infer(name, {"x": ROW}).version == "1", "latest has no weight"
    assert client.infer(name, {"x": ROW}, version="2").version == "2"


def test_tritonclient_over_grpc(mesh, affine):
    grpcclient = pytest.importorskip("tritonclient.grpc")
    with grpcclient.InferenceServerClient(mesh.gateway) as triton:
        assert triton.is_server_live()
        assert triton.is_server_ready()
        assert triton.is_model_ready(affine)
        metadata = triton.get_model_metadata(affine)
        assert [tensor.name for tensor in metadata.inputs] == ["x"]
        assert triton.get_model_config(affine).config.max_batch_size == 64
        tensor = grpcclient.InferInput("x", [2, 4], "FP32")
        rows = np.concatenate([ROW, ROW + 1])
        tensor.set_data_from_numpy(rows)
        result = triton.infer(affine, [tensor], request_id="abc")
        np.testing.assert_array_equal(result.as_numpy("y"), answer(rows, 2)["y"])
        assert result.get_response().id == "abc"
        statistics = triton.get_inference_statistics(affine).model_stats
        assert statistics[0].version == "1"
        assert statistics[0].inference_stats.success.count > 0


def test_tritonclient_over_http(mesh, affine):
    httpclient = pytest.importorskip("tritonclient.http")
    with httpclient.InferenceServerClient(mesh.gateway) as triton:
        assert triton.is_server_live()
        assert triton.is_model_ready(affine)
        for binary in (True, False):
            tensor = httpclient.InferInput("x", [1, 4], "FP32")
            tensor.set_data_from_numpy(ROW, binary_data=binary)
            wanted = httpclient.InferRequestedOutput("y", binary_data=binary)
            result = triton.infer(affine, [tensor], outputs=[wanted])
            np.testing.assert_array_equal(result.as_numpy("y"), answer(ROW, 2)["y"])


def test_tritonclient_directly_at_a_worker(mesh, affine):
    grpcclient = pytest.importorskip("tritonclient.grpc")
    with grpcclient.InferenceServerClient(mesh.address("worker-1")) as triton:
        tensor = grpcclient.InferInput("x", [1, 4], "FP32")
        tensor.set_data_from_numpy(ROW)
        np.testing.assert_array_equal(triton.infer(affine, [tensor]).as_numpy("y"), answer(ROW, 2)["y"])


def test_repository_index_load_and_unload(mesh, client, files, fresh_id):
    grpcclient = pytest.importorskip("tritonclient.grpc")
    name = fresh_id("repository")
    client.push(name, files.onnx(2), samples=samples(2))
    with grpcclient.InferenceServerClient(mesh.gateway) as triton:
        triton.load_model(name)
        index = {model.name: model for model in triton.get_model_repository_index().models}
        assert (index[name].version, index[name].state) == ("1", "READY")
        assert client.infer(name, {"x": ROW}).version == "1"
        triton.unload_model(name)
    with pytest.raises((errors.NotFound, errors.NotReady)):
        client.infer(name, {"x": ROW})


CURL = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [0, 1, 2, 3]}]}


def post(url, body):
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as reply:
        return json.load(reply)


def test_plain_json_over_http(mesh, affine):
    reply = post(f"http://{mesh.gateway}/v2/models/{affine}/infer", CURL)
    assert reply["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [1, 4], "data": [1.0, 3.0, 5.0, 7.0]}]
    assert reply["model_name"] == affine
    assert reply["model_version"] == "1"


BAD_CALLS = [
    ("nobody", "", {"x": ROW}, errors.NotFound, 404, "nobody"),
    ("{affine}", "99", {"x": ROW}, errors.NotFound, 404, "99"),
    ("{affine}", "canary", {"x": ROW}, errors.NotFound, 404, "canary"),
    ("{affine}", "", {"z": ROW}, errors.InvalidInput, 400, "z"),
    ("{affine}", "", {}, errors.InvalidInput, 400, "x"),
    ("{affine}", "", {"x": ROW.astype(np.float64)}, errors.BadTensor, 400, "FP64"),
    ("{affine}", "", {"x": ROW[:, :3]}, errors.BadTensor, 400, "3"),
    ("{affine}", "", {"x": ROW[0]}, errors.BadTensor, 400, "x"),
    ("{affine}", "", {"x": np.zeros((65, 4), np.float32)}, errors.InvalidInput, 400, "64"),
]


@pytest.mark.parametrize(("model", "version", "inputs", "kind", "status", "named"), BAD_CALLS)
def test_a_bad_call_is_told_so_over_grpc_and_http(mesh, client, affine, model, version, inputs, kind, status, named):
    model = model.format(affine=affine)
    with pytest.raises(kind) as caught:
        client.infer(model, inputs, version=version)
    assert named in caught.value.message
    assert "Traceback" not in caught.value.message
    tensors = [
        {"name": name, "shape": array.shape, "datatype": f"FP{8 * array.itemsize}", "data": array.ravel().tolist()}
        for name, array in inputs.items()
    ]
    path = f"/v2/models/{model}" + (f"/versions/{version}" if version else "") + "/infer"
    with pytest.raises(urllib.error.HTTPError) as refused:
        post(f"http://{mesh.gateway}{path}", {"inputs": tensors})
    with refused.value as reply:
        assert reply.status == status
        assert named in json.load(reply)["error"]


def test_a_call_without_time_ends_in_time(client, affine):
    with pytest.raises(errors.DeadlineExceeded):
        client.infer(affine, {"x": ROW}, timeout=0.00001)
    assert client.infer(affine, {"x": ROW}, timeout=10).version == "1"


def test_both_clients_in_one_process_in_either_order():
    for first, second in (("tritonclient.grpc", "infermesh.client"), ("infermesh.client", "tritonclient.grpc")):
        subprocess.run([sys.executable, "-W", "error::RuntimeWarning", "-c", f"import {first}, {second}"], check=True)


def test_the_command_line_against_a_mesh(mesh, files, fresh_id, tmp_path):
    name = fresh_id("cli")

    def infermesh(*arguments):
        command = [sys.executable, "-m", "infermesh.cli", *arguments, "--home", str(mesh.home), "--output", "json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=90)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    np.savez(tmp_path / "x.npz", x=ROW, y=answer(ROW, 2)["y"])
    assert infermesh("push", str(files.onnx(2)), "--name", name)["name"] == f"models/{name}/versions/1"
    infermesh("deploy", name)
    np.save(tmp_path / "x.npy", ROW)
    shown = json.dumps(infermesh("infer", name, f"x=@{tmp_path / 'x.npy'}"))
    assert "7.0" in shown
    assert name in json.dumps(infermesh("status"))
    assert name in json.dumps(infermesh("models"))
