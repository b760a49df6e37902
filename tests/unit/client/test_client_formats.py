"""Signatures read from files that the real frameworks wrote, and from files that nobody should have written."""

import json
import random
import zipfile
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from infermesh.client.formats import Description, describe
from infermesh.client.formats.pt2 import output_names
from infermesh.errors import InvalidInput
from infermesh.v1 import model_pb2


def shapes(specs: Any) -> dict[str, tuple[str, list[int]]]:
    return {spec.name: (spec.datatype, list(spec.shape)) for spec in specs}


def found(path: Path) -> tuple[model_pb2.Signature, int | None]:
    description = describe(path)
    assert description.signature is not None
    return description.signature, description.max_batch_size


def onnx_file(path: Path, inputs: list[Any], outputs: list[Any], weights: dict[str, int], *, pad: int = 0) -> Path:
    initializers = [helper.make_tensor(name, TensorProto.FLOAT, [size], [0.5] * size) for name, size in weights.items()]
    if pad:
        initializers.append(helper.make_tensor("pad", TensorProto.UINT8, [pad], bytes(pad), raw=True))
    nodes = [helper.make_node("Identity", [inputs[0].name], [outputs[0].name])]
    model = helper.make_model(helper.make_graph(nodes, "g", inputs, outputs, initializers))
    path.write_bytes(model.SerializeToString())
    return path


class Two(torch.nn.Module):
    def forward(self, image: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"logits": image * mask, "count": mask.sum(1).to(torch.int64)}


class One(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


class Pair(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x + 1, x > 0


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three programs: two named outputs with a bounded batch, one output with a free batch, a fixed batch."""
    folder = tmp_path_factory.mktemp("pt2")
    bounded = torch.export.Dim("batch", min=1, max=128)
    free = torch.export.Dim("batch")
    programs = {
        "two": torch.export.export(
            Two(),
            (torch.ones(2, 4), torch.ones(2, 4, dtype=torch.float32)),
            dynamic_shapes={"image": {0: bounded}, "mask": {0: bounded}},
        ),
        "one": torch.export.export(One(), (torch.ones(2, 4),), dynamic_shapes={"x": {0: free}}),
        "pair": torch.export.export(Pair(), (torch.ones(3, 2, dtype=torch.float64),)),
    }
    for name, program in programs.items():
        torch.export.save(program, folder / f"{name}.pt2")
    return folder


def test_exported_program_with_named_outputs(exported: Path) -> None:
    signature, limit = found(exported / "two.pt2")
    assert shapes(signature.inputs) == {"image": ("FP32", [-1, 4]), "mask": ("FP32", [-1, 4])}
    assert shapes(signature.outputs) == {"logits": ("FP32", [-1, 4]), "count": ("INT64", [-1])}
    assert limit == 128


def test_exported_program_with_one_output(exported: Path) -> None:
    signature, limit = found(exported / "one.pt2")
    assert shapes(signature.inputs) == {"x": ("FP32", [-1, 4])}
    assert shapes(signature.outputs) == {"output": ("FP32", [-1, 3])}
    assert limit is None


def test_exported_program_with_a_fixed_batch(exported: Path) -> None:
    signature, limit = found(exported / "pair.pt2")
    assert shapes(signature.inputs) == {"x": ("FP64", [3, 2])}
    assert shapes(signature.outputs) == {"output_0": ("FP64", [3, 2]), "output_1": ("BOOL", [3, 2])}
    assert limit is None


@pytest.mark.parametrize(
    "content",
    [{}, {"graph_module": {}}, {"graph_module": {"graph": {"tensor_values": []}, "signature": 3}}, [], None],
)
def test_an_archive_of_another_form_says_nothing(tmp_path: Path, content: object) -> None:
    path = tmp_path / "m.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/models/model.json", json.dumps(content))
    assert describe(path) == Description()


def test_an_archive_without_a_graph_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "m.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/other", "x")
    assert describe(path) == Description()


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.pt2"
    path.write_bytes(b"PK but no zip")
    with pytest.raises(InvalidInput, match=r"m\.pt2: not a \.pt2 archive"):
        describe(path)


@pytest.mark.parametrize(
    ("spec", "count", "names"),
    [
        ("", 1, ["output"]),
        ("", 2, ["output_0", "output_1"]),
        ('[1, {"type": "builtins.dict", "context": "[\\"a\\"]", "children_spec": [{}]}]', 1, ["a"]),
        ('[1, {"type": "builtins.dict", "context": "[\\"a\\"]", "children_spec": [{}]}]', 2, ["output_0", "output_1"]),
    ],
)
def test_names_of_outputs(spec: str, count: int, names: list[str]) -> None:
    assert output_names(spec, count) == names


def test_onnx_signature_leaves_out_weights(tmp_path: Path) -> None:
    inputs = [
        helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 8, 8]),
        helper.make_tensor_value_info("words", TensorProto.STRING, [None, 3]),
        helper.make_tensor_value_info("w", TensorProto.FLOAT, [4]),
    ]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT16, ["batch", 10])]
    signature, limit = found(onnx_file(tmp_path / "m.onnx", inputs, outputs, {"w": 4}))
    assert shapes(signature.inputs) == {"image": ("FP32", [-1, 1, 8, 8]), "words": ("BYTES", [-1, 3])}
    assert shapes(signature.outputs) == {"logits": ("FP16", [-1, 10])}
    assert limit is None


KINDS = {
    "FLOAT": "FP32",
    "UINT8": "UINT8",
    "INT8": "INT8",
    "UINT16": "UINT16",
    "INT16": "INT16",
    "INT32": "INT32",
    "INT64": "INT64",
    "STRING": "BYTES",
    "BOOL": "BOOL",
    "FLOAT16": "FP16",
    "DOUBLE": "FP64",
    "UINT32": "UINT32",
    "UINT64": "UINT64",
    "BFLOAT16": "BF16",
}
DIMS = st.lists(st.sampled_from(["n", "m"]) | st.integers(1, 1 << 40), max_size=4)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(sorted(KINDS)), dims=DIMS, name=st.text(min_size=1, max_size=20))
def test_onnx_reading_agrees_with_onnx(tmp_path: Path, kind: str, dims: list[Any], name: str) -> None:
    path = tmp_path / "m.onnx"
    info = helper.make_tensor_value_info(name, getattr(TensorProto, kind), dims)
    onnx_file(path, [info], [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])], {})
    signature, _ = found(path)
    expected = [dim if isinstance(dim, int) else -1 for dim in dims]
    assert shapes(signature.inputs) == {name: (KINDS[kind], expected)}
    assert onnx.load(path).graph.input[0].name == signature.inputs[0].name


def test_onnx_weights_are_skipped_not_read(tmp_path: Path) -> None:
    import tracemalloc

    info = helper.make_tensor_value_info("x", TensorProto.FLOAT, [-1])
    path = onnx_file(tmp_path / "m.onnx", [info], [info], {}, pad=20_000_000)
    tracemalloc.start()
    try:
        found(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000


def test_onnx_with_a_sequence_says_nothing(tmp_path: Path) -> None:
    sequence = helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, None)
    plain = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    assert describe(onnx_file(tmp_path / "m.onnx", [plain], [sequence], {})) == Description()


@pytest.mark.parametrize("content", [b"", b"\xff" * 30, b"not a model at all", b"\x3a\x05\x0a"])
def test_what_is_no_onnx_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match="not an ONNX model"):
        describe(path)


def test_damaged_files_never_crash_the_reader(tmp_path: Path) -> None:
    info = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])
    good = onnx_file(tmp_path / "good.onnx", [info], [info], {"w": 3}).read_bytes()
    path, rng = tmp_path / "m.onnx", random.Random(7)
    outcomes = set()
    for _ in range(300):
        damaged = bytearray(good[: rng.randrange(1, len(good))] if rng.random() < 0.3 else good)
        damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            outcomes.add(type(describe(path)))
        except InvalidInput:
            outcomes.add(InvalidInput)
    assert outcomes == {Description, InvalidInput}


def test_other_suffixes_say_nothing(tmp_path: Path) -> None:
    assert describe(tmp_path / "model.pt") == Description()
