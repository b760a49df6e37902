"""What becomes of local files: entry, backend, signature, samples, limits."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infermesh.client import signature
from infermesh.client.package import DEFAULT_BATCH, draft_version, find_entry, list_files
from infermesh.client.signature import from_samples, sample_of
from infermesh.errors import BadTensor, InvalidInput
from infermesh.v1 import model_pb2

SIGNATURE = signature({"x": ("FP32", [-1, 4])}, {"y": ("FP32", [-1, 2])})
FIXED = signature({"x": ("FP32", [3, 4])}, {"y": ("FP32", [3, 2])})
SAMPLE = ({"x": np.zeros((1, 4), np.float32)}, {"y": np.zeros((1, 2), np.float32)})


def draft(
    files: Mapping[str, Path],
    backend: str = "",
    declared: model_pb2.Signature | None = SIGNATURE,
    samples: Any = (),
    limit: int | None = None,
    options: dict[str, str] | None = None,
) -> model_pb2.ModelVersion:
    return draft_version(files, backend, declared, samples, limit, options or {})


def paths(*names: str) -> dict[str, Path]:
    return {name: Path(name) for name in names}


@pytest.mark.parametrize(
    ("name", "backend"),
    [("m.pt2", "torch"), ("m.pt", "torch"), ("m.ts", "torch"), ("m.onnx", "onnx"), ("model.py", "python")],
)
def test_the_backend_follows_from_the_suffix(name: str, backend: str) -> None:
    assert draft(paths(name)).backend == backend


def test_an_unknown_suffix_needs_a_backend() -> None:
    with pytest.raises(InvalidInput, match="suffix"):
        draft(paths("weights.bin"))
    assert draft(paths("weights.bin"), "mine").backend == "mine"


def test_the_entry_of_many_files() -> None:
    version = draft(paths("words.txt", "m.onnx", "m.onnx.data"))
    assert dict(version.options) == {"entry": "m.onnx"}
    with pytest.raises(InvalidInput, match="entry"):
        draft(paths("a.onnx", "b.onnx"))
    assert draft(paths("a.onnx", "b.onnx"), options={"entry": "b.onnx"}).options["entry"] == "b.onnx"
    with pytest.raises(InvalidInput, match="not among the files"):
        draft(paths("a.onnx"), options={"entry": "c.onnx"})


def test_the_backend_chooses_between_entries() -> None:
    assert find_entry(paths("a.onnx", "model.py"), "python") == "model.py"
    with pytest.raises(InvalidInput, match="expected one file"):
        find_entry(paths("a.onnx", "model.py"), "")


def test_a_python_file_names_its_class() -> None:
    assert draft(paths("ranker.py")).options["class"] == "ranker:Model"
    assert draft(paths("ranker.py"), options={"class": "ranker:Best"}).options["class"] == "ranker:Best"


def test_batch_limits() -> None:
    assert draft(paths("m.pt")).max_batch_size == DEFAULT_BATCH
    assert draft(paths("m.pt"), limit=4).max_batch_size == 4
    assert draft(paths("m.pt"), limit=0).max_batch_size == 0
    assert draft(paths("m.pt"), declared=FIXED).max_batch_size == 0


def test_a_silent_file_gets_its_signature_from_samples() -> None:
    assert draft(paths("m.pt"), declared=None, samples=[SAMPLE]).signature == SIGNATURE
    unbatched = draft(paths("m.pt"), declared=None, samples=[SAMPLE], limit=0).signature
    assert list(unbatched.inputs[0].shape) == [1, 4]
    with pytest.raises(InvalidInput, match="signature= or at least one sample"):
        draft(paths("m.pt"), declared=None)


def test_files_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.txt").touch()
    (tmp_path / "m.onnx").touch()
    assert list(list_files(tmp_path)) == ["a/b.txt", "m.onnx"]
    assert list(list_files(str(tmp_path / "m.onnx"))) == ["m.onnx"]
    assert list(list_files({"x/y.onnx": tmp_path / "m.onnx"})) == ["x/y.onnx"]


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="not found"):
        list_files(tmp_path / "m.onnx")
    with pytest.raises(InvalidInput, match="at least one file"):
        list_files(tmp_path)
    with pytest.raises(InvalidInput, match="at least one file"):
        list_files({})


@pytest.mark.parametrize(
    ("inputs", "outputs", "text"),
    [
        ({}, {"y": ("FP32", [1])}, "at least one"),
        ({"x": ("FLOAT", [1])}, {"y": ("FP32", [1])}, "datatype"),
        ({"x": ("FP32", [0])}, {"y": ("FP32", [1])}, "'x'"),
        ({"x": ("FP32", [-2])}, {"y": ("FP32", [1])}, "'x'"),
    ],
)
def test_signatures_that_can_not_be(inputs: Any, outputs: Any, text: str) -> None:
    with pytest.raises(InvalidInput, match=text):
        signature(inputs, outputs)


@pytest.mark.parametrize(
    ("inputs", "outputs", "tensor"),
    [
        ({}, {}, "x"),
        ({"x": np.zeros((1, 4), np.float64)}, {}, "x"),
        ({"x": np.zeros((1, 5), np.float32)}, {}, "x"),
        ({"x": np.zeros(4, np.float32)}, {}, "x"),
        ({"x": SAMPLE[0]["x"], "z": np.zeros(1)}, {}, "z"),
        (SAMPLE[0], {"z": np.zeros(1)}, "z"),
    ],
)
def test_samples_that_do_not_fit(inputs: Any, outputs: Any, tensor: str) -> None:
    with pytest.raises(BadTensor) as caught:
        sample_of(SIGNATURE, inputs, outputs)
    assert caught.value.metadata["tensor"] == tensor


def test_samples_that_contradict() -> None:
    wide = ({"x": np.zeros((1, 5), np.float32)}, SAMPLE[1])
    assert list(from_samples([SAMPLE, wide], batched=True).inputs[0].shape) == [-1, -1]
    for other in (
        ({"x": np.zeros((1, 4), np.float64)}, SAMPLE[1]),
        ({"x": np.zeros(4, np.float32)}, SAMPLE[1]),
        ({"z": SAMPLE[0]["x"]}, SAMPLE[1]),
    ):
        with pytest.raises(InvalidInput, match="samples"):
            from_samples([SAMPLE, other], batched=True)
    with pytest.raises(InvalidInput, match="without samples"):
        from_samples([], batched=True)
    with pytest.raises(BadTensor, match="scalar"):
        from_samples([({"x": np.float32(1)}, {"y": np.float32(1)})], batched=True)


@given(rows=st.lists(st.integers(1, 4), min_size=1, max_size=3), columns=st.integers(1, 4), batched=st.booleans())
def test_samples_fit_the_signature_made_of_them(rows: list[int], columns: int, batched: bool) -> None:
    samples = [
        ({"x": np.ones((row, columns), np.float32)}, {"y": np.full((row,), "text", dtype=object)}) for row in rows
    ]
    made = from_samples(samples, batched=batched)
    for inputs, outputs in samples:
        sample = sample_of(made, inputs, outputs)
        assert sample.inputs[0].shape == [*inputs["x"].shape]
    assert made.inputs[0].shape[1] == columns
    assert made.outputs[0].datatype == "BYTES"
