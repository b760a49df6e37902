"""What only torch programs do: structures, open sizes, datatypes, and archives that were made to do harm."""

import io
import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from infermesh.errors import LoadFailed
from infermesh.v1 import model_pb2
from infermesh.worker.backends import torch_program
from infermesh.worker.backends.base import LoadContext
from infermesh.worker.backends.torch_backend import TorchBackend
from tests.contract.backend_models import expected, export, features, torch_module, version, write

pytestmark = pytest.mark.filterwarnings("ignore")  # torch's own, about itself
BATCH = torch.export.Dim("batch")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pt2")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write("pt2", folder)
    return folder / "model.pt2"


def describe(inputs: Mapping[str, tuple[str, list[int]]], outputs: Mapping[str, tuple[str, list[int]]]) -> Any:
    described = model_pb2.ModelVersion(backend="torch", max_batch_size=8)
    for specs, wanted in ((described.signature.inputs, inputs), (described.signature.outputs, outputs)):
        for name, (datatype, shape) in wanted.items():
            specs.add(name=name, datatype=datatype, shape=shape)
    return described


def load(folder: Path, described: model_pb2.ModelVersion, probe: Mapping[str, Any]) -> TorchBackend:
    backend = TorchBackend()
    backend.load(LoadContext(described, folder, "cpu", 1, False, probe))
    return backend


def run(backend: TorchBackend, inputs: Mapping[str, Any], *outputs: str) -> list[Any]:
    try:
        got = backend.infer(inputs, outputs)
        return [got[name].copy() for name in outputs]
    finally:
        backend.close()


def rewritten(source: Path, folder: Path, change: Callable[[str, bytes], bytes | None]) -> Path:
    """Writes a copy of an archive whose records have passed `change`; None drops one."""
    target = folder / "model.pt2"
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for entry in old.infolist():
            content = change(entry.filename.partition("/")[2], old.read(entry))
            if content is not None:
                new.writestr(entry.filename, content)
    return target


def in_json(record: str, edit: Callable[[Any], None]) -> Callable[[str, bytes], bytes]:
    def change(name: str, content: bytes) -> bytes:
        if name != record:
            return content
        parsed = json.loads(content)
        edit(parsed)
        return json.dumps(parsed).encode()

    return change


class Bomb:
    """Unpickling it writes a file."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> Any:
        return (Path.write_text, (self._mark, "boom"))


@pytest.mark.parametrize("how", ["torch.save", "pickle"])
def test_sample_inputs_are_never_unpickled(archive: Path, tmp_path: Path, how: str) -> None:
    mark = tmp_path / "mark"
    if how == "pickle":
        payload = pickle.dumps(Bomb(mark))
    else:
        buffer = io.BytesIO()
        torch.save(((Bomb(mark),), {}), buffer)
        payload = buffer.getvalue()
    rewritten(archive, tmp_path, lambda name, content: payload if "sample_inputs" in name else content)
    (scores,) = run(load(tmp_path, version("pt2"), {"x": features(2)}), {"x": features(3)}, "scores")
    np.testing.assert_allclose(scores, expected(features(3))["scores"], rtol=1e-5, atol=1e-5)
    assert not mark.exists()


def test_the_bomb_goes_off_in_torch_itself(archive: Path, tmp_path: Path) -> None:
    """Shows that the test above tests something."""
    mark = tmp_path / "mark"
    payload = pickle.dumps(Bomb(mark))
    rewritten(archive, tmp_path, lambda name, content: payload if "sample_inputs" in name else content)
    with pytest.raises(Exception, match=r".*"):
        torch.export.load(tmp_path / "model.pt2")
    assert mark.exists()


def test_pickled_weights_are_refused(archive: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"

    def edit(config: Any) -> None:
        for meta in config["config"].values():
            meta["use_pickle"] = True

    change = in_json("data/weights/model_weights_config.json", edit)
    rewritten(
        archive,
        tmp_path,
        lambda name, content: pickle.dumps(Bomb(mark)) if "weight_" in name else change(name, content),
    )
    with pytest.raises(LoadFailed, match="stored as a pickle"):
        load(tmp_path, version("pt2"), {"x": features(2)})
    assert not mark.exists()


def test_custom_objects_are_refused(archive: Path, tmp_path: Path) -> None:
    def edit(config: Any) -> None:
        config["config"]["bomb"] = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True}

    rewritten(archive, tmp_path, in_json("data/constants/model_constants_config.json", edit))
    with pytest.raises(LoadFailed, match=r"bomb.*stored as a pickle"):
        load(tmp_path, version("pt2"), {"x": features(2)})


def harm(edit: Callable[[Any], None]) -> Any:
    return in_json("models/model.json", edit)


def _expression(program: Any) -> None:
    text = "__import__('pathlib').Path('mark').touch() or 2"
    program["graph_module"]["graph"]["tensor_values"]["x"]["sizes"][0] = {"as_expr": {"expr_str": text, "hint": None}}


def _operator(program: Any) -> None:
    program["graph_module"]["graph"]["nodes"][0]["target"] = "torch.os.system"


def _name(program: Any) -> None:
    program["graph_module"]["graph"]["nodes"][0]["outputs"][0]["as_tensor"]["name"] = "x; import os"


def _structure(program: Any) -> None:
    spec = {"type": "builtins.dict", "context": '{"__enum__": true, "fqn": "antigravity:x"}', "children_spec": []}
    program["graph_module"]["module_call_graph"][0]["signature"]["out_spec"] = json.dumps([1, spec])


@pytest.mark.parametrize(
    ("edit", "text"),
    [
        (_expression, "holds more than arithmetic"),
        (_operator, "operator 'torch.os.system'"),
        (_name, "expected an identifier"),
        (_structure, "expected plain names"),
    ],
)
def test_programs_that_would_become_code_are_refused(
    archive: Path, tmp_path: Path, edit: Callable[[Any], None], text: str
) -> None:
    rewritten(archive, tmp_path, harm(edit))
    with pytest.raises(LoadFailed, match=text):
        load(tmp_path, version("pt2"), {"x": features(2)})


def test_guards_are_dropped(archive: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"

    def edit(program: Any) -> None:
        program["guards_code"] = [f"open({str(mark)!r}, 'w')"]

    rewritten(archive, tmp_path, harm(edit))
    run(load(tmp_path, version("pt2"), {"x": features(2)}), {"x": features(1)}, "scores")
    assert not mark.exists()


@pytest.mark.parametrize(
    ("dropped", "text"),
    [
        ("models/model.json", "expected one program"),
        ("data/weights/weight_0", "weight_0 is missing"),
        ("data/weights/model_weights_config.json", "weights_config.json is missing"),
        ("archive_format", "archive_format"),
    ],
)
def test_missing_records_are_named(archive: Path, tmp_path: Path, dropped: str, text: str) -> None:
    rewritten(archive, tmp_path, lambda name, content: None if name == dropped else content)
    with pytest.raises(LoadFailed, match=text):
        load(tmp_path, version("pt2"), {"x": features(2)})


def test_pickles_that_call_themselves_torchscript_are_refused(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    torch.save(Bomb(mark), tmp_path / "model.pt")
    with pytest.raises(LoadFailed, match="not a TorchScript file"):
        load(tmp_path, version("torchscript"), {"x": features(2)})
    assert not mark.exists()


class Writing(torch.nn.Module):
    """Writes a file."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.save(x, "/tmp/infermesh-test-mark")
        return x


class Reading(torch.nn.Module):
    """Reads a file."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.from_file("/etc/hostname", False, 1)


@pytest.mark.parametrize(("module", "word"), [(Writing(), "save"), (Reading(), "from_file")])
def test_torchscript_that_reaches_files_is_refused(tmp_path: Path, module: torch.nn.Module, word: str) -> None:
    torch.jit.script(module).save(str(tmp_path / "model.pt"))  # type: ignore[no-untyped-call]
    with pytest.raises(LoadFailed, match=rf"model\.pt: code/.* names '{word}'"):
        load(tmp_path, version("torchscript"), {"x": features(2)})


def test_a_fixed_batch_dimension_is_refused(tmp_path: Path) -> None:
    export(torch_module(), tmp_path / "model.pt2", (torch.zeros(1, 6),), None)
    with pytest.raises(LoadFailed, match=r"takes exactly 1 rows, max_batch_size is 32"):
        load(tmp_path, version("pt2"), {"x": features(1)})
    (scores,) = run(load(tmp_path, version("pt2", max_batch_size=1), {"x": features(1)}), {"x": features(1)}, "scores")
    np.testing.assert_allclose(scores, expected(features(1))["scores"], rtol=1e-5, atol=1e-5)


def test_a_bounded_batch_dimension_is_refused(tmp_path: Path) -> None:
    shapes = {"x": {0: torch.export.Dim("batch", max=16)}}
    export(torch_module(), tmp_path / "model.pt2", (torch.zeros(4, 6),), shapes)
    with pytest.raises(LoadFailed, match=r"takes 0 to 16 rows, max_batch_size is 32"):
        load(tmp_path, version("pt2"), {"x": features(2)})


class Named(torch.nn.Module):
    """Two inputs that are not alike, outputs with names."""

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"difference": left - right, "total": left + right}


@pytest.mark.parametrize("swapped", [False, True])
def test_tensors_are_matched_by_name(tmp_path: Path, swapped: bool) -> None:
    export(Named(), tmp_path / "model.pt2", (torch.ones(4, 2), torch.zeros(4, 2)), ({0: BATCH}, {0: BATCH}))
    left, right = np.full((3, 2), 5, np.float32), np.full((3, 2), 2, np.float32)
    spec = ("FP32", [-1, 2])
    names = ["right", "left"] if swapped else ["left", "right"]
    outputs = ["total", "difference"] if swapped else ["difference", "total"]
    described = describe(dict.fromkeys(names, spec), dict.fromkeys(outputs, spec))
    inputs = {"left": left, "right": right}
    difference, total = run(load(tmp_path, described, inputs), inputs, "difference", "total")
    assert (difference == 3).all()
    assert (total == 7).all()


def test_tensors_with_other_names_are_matched_by_order(tmp_path: Path) -> None:
    export(Named(), tmp_path / "model.pt2", (torch.ones(4, 2), torch.zeros(4, 2)), ({0: BATCH}, {0: BATCH}))
    spec = ("FP32", [-1, 2])
    described = describe({"a": spec, "b": spec}, {"minus": spec, "plus": spec})
    inputs = {"a": np.full((3, 2), 5, np.float32), "b": np.full((3, 2), 2, np.float32)}
    minus, plus = run(load(tmp_path, described, inputs), inputs, "minus", "plus")
    assert (minus == 3).all()
    assert (plus == 7).all()


class Bilinear(torch.nn.Module):
    """Its two open sizes have to be equal: a guard that only `module()` checks."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return (x * y).sum(1)


LENGTH = torch.export.Dim("length")


@pytest.mark.parametrize(
    ("module", "inputs", "shapes", "direct"),
    [
        (torch_module(), (torch.zeros(4, 6),), ({0: BATCH},), True),
        (Bilinear(), (torch.zeros(4, 6), torch.zeros(4, 6)), ({0: BATCH, 1: LENGTH}, {0: BATCH, 1: LENGTH}), False),
        (Bilinear(), (torch.zeros(4, 6), torch.zeros(4, 6)), ({0: BATCH}, {0: BATCH}), True),
    ],
    ids=["plain", "equal sizes", "two inputs"],
)
def test_the_graph_is_called_directly_only_where_no_guard_is_lost(
    module: Any, inputs: Any, shapes: Any, direct: bool
) -> None:
    program = torch.export.export(module, inputs, dynamic_shapes=shapes)
    assert torch_program._is_plain(program, model_pb2.ModelVersion(max_batch_size=8)) is direct


def test_guards_still_hold_where_the_graph_is_not_called_directly(tmp_path: Path) -> None:
    shapes = ({0: BATCH, 1: LENGTH}, {0: BATCH, 1: LENGTH})
    export(Bilinear(), tmp_path / "model.pt2", (torch.zeros(4, 6), torch.zeros(4, 6)), shapes)
    described = describe({"x": ("FP32", [-1, -1]), "y": ("FP32", [-1, -1])}, {"out": ("FP32", [-1])})
    ones = np.ones((2, 3), np.float32)
    backend = load(tmp_path, described, {"x": ones, "y": ones})
    with pytest.raises((RuntimeError, AssertionError)):
        run(backend, {"x": ones, "y": np.ones((2, 1), np.float32)}, "out")  # broadcasts in eager mode


class Half(torch.nn.Module):
    """Doubles bfloat16."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2


def test_bfloat16_travels_as_its_bits(tmp_path: Path) -> None:
    export(Half(), tmp_path / "model.pt2", (torch.zeros(4, 2, dtype=torch.bfloat16),), ({0: BATCH},))
    described = describe({"x": ("BF16", [-1, 2])}, {"y": ("BF16", [-1, 2])})
    bits = torch.tensor([[1.5, -3.0]], dtype=torch.bfloat16).view(torch.uint16).numpy()
    (got,) = run(load(tmp_path, described, {"x": bits}), {"x": bits.copy()}, "y")
    assert got.dtype == np.uint16
    assert torch.from_numpy(got).view(torch.bfloat16).tolist() == [[3.0, -6.0]]


def test_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.pt2").write_bytes(b"")
    described = describe({"x": ("BYTES", [-1])}, {"y": ("FP32", [-1])})
    with pytest.raises(LoadFailed, match=re.escape("tensor 'x': torch has no BYTES")):
        load(tmp_path, described, {})


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_cuda_it_gives_the_same(archive: Path) -> None:
    backend = TorchBackend()
    backend.load(LoadContext(version("pt2"), archive.parent, "cuda:0", 1, False, {"x": features(2)}))
    for rows in (1, 8, 3, 32):
        got = backend.infer({"x": features(rows)}, ("scores",))["scores"]
        np.testing.assert_allclose(got, expected(features(rows))["scores"], rtol=1e-3, atol=1e-3)
    assert (backend.memory_bytes() or 0) > 0
    backend.close()
