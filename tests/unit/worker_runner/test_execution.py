"""An execution checks what goes in and what comes out, whatever the backend does."""

import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from infermesh.errors import BadTensor, InvalidInput, LoadFailed, MeshError, ModelFailed
from infermesh.mesh.extensions import Table
from infermesh.tensors import Array, encode
from infermesh.v1 import model_pb2, runner_pb2
from infermesh.worker.backends.base import Backend, LoadContext, RunnerBroken, entry_file
from infermesh.worker.execution import Execution, Loaded, describe


class FakeBackend:
    """Doubles `x`; `answer` may be replaced."""

    def __init__(self, answer: Callable[[Mapping[str, Array]], Any] | None = None) -> None:
        self.answer = answer or (lambda inputs: {"y": inputs["x"] * 2})
        self.context: LoadContext | None = None
        self.seen: list[Mapping[str, Array]] = []
        self.threads: list[int] = []

    def load(self, context: LoadContext) -> None:
        self.context = context

    def infer(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> Mapping[str, Array]:
        self.seen.append(inputs)
        return cast("Mapping[str, Array]", self.answer(inputs))

    def use_threads(self, threads: int) -> None:
        self.threads.append(threads)

    def memory_bytes(self) -> int | None:
        return 123

    def close(self) -> None:
        self.context = None


class One(Table[type[Backend]]):
    """Holds a backend that was made before."""

    def __init__(self, backend: FakeBackend) -> None:
        super().__init__("backend", {"fake": "x:y"}, "none")
        self._backend = backend

    def load(self, name: str) -> Any:
        return super().load(name) if name != "fake" else lambda: self._backend


def version(rows: int = 8) -> model_pb2.ModelVersion:
    described = model_pb2.ModelVersion(backend="fake", max_batch_size=rows)
    described.signature.inputs.add(name="x", datatype="FP32", shape=[-1, 2])
    described.signature.outputs.add(name="y", datatype="FP32", shape=[-1, 2])
    return described


def load(backend: FakeBackend, described: model_pb2.ModelVersion, threads: int = 1) -> tuple[Execution, Loaded]:
    command = runner_pb2.LoadCommand(version=described, folder="/", threads=threads)
    return Execution.load(command, One(backend))


def run(execution: Execution, x: Any, wanted: Sequence[str] = (), **changes: Any) -> dict[str, Any]:
    spec = runner_pb2.BufferSpec(**{"name": "x", "datatype": "FP32", "shape": x.shape, **changes})
    outputs, _ = execution.run([spec], [memoryview(bytearray(encode(x)))], wanted)
    return {out.name: np.frombuffer(out.data, np.float32).reshape(out.shape) for out in outputs}


X = np.arange(6, dtype=np.float32).reshape(3, 2)


def test_runs_a_batch() -> None:
    execution, loaded = load(FakeBackend(), version())
    assert (run(execution, X)["y"] == X * 2).all()
    assert loaded.memory_bytes == 123
    assert [rows for rows, _ in loaded.batch_times] == [1, 2, 4, 8]


def test_the_backend_is_told_what_it_needs() -> None:
    backend = FakeBackend()
    load(backend, version(), threads=3)
    assert backend.context is not None
    assert (backend.context.folder, backend.context.device, backend.context.threads) == (Path("/"), "cpu", 3)
    assert backend.context.probe["x"].shape == (1, 2)


def test_more_threads_are_tried_and_one_number_is_kept() -> None:
    backend = FakeBackend()
    load(backend, version(), threads=4)
    assert backend.threads[:3] == [1, 2, 4]
    assert backend.threads[3] in (1, 2, 4)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ({}, "output 'y': the signature has it, the model did not give it"),
        ({"y": X[:2]}, r"output 'y': expected FP32\[3, 2\], the model gave float32\[2, 2\]"),
        ({"y": X[:, :1]}, r"the model gave float32\[3, 1\]"),
        ({"y": X.ravel()}, r"the model gave float32\[6\]"),
        ({"y": np.float32(1)}, "output 'y'"),
        ({"y": X.astype(np.float64)}, r"the model gave float64\[3, 2\]"),
        ({"y": X.astype(np.complex64)}, "the model gave complex64"),
    ],
)
def test_an_output_that_the_signature_does_not_describe_is_the_models_fault(answer: Any, text: str) -> None:
    backend = FakeBackend()
    execution, _ = load(backend, version())
    backend.answer = lambda inputs: answer
    with pytest.raises(ModelFailed, match=text):
        run(execution, X)


def test_exceptions_keep_their_first_line_and_no_more() -> None:
    backend = FakeBackend()
    execution, _ = load(backend, version())

    def fail(inputs: Any) -> Any:
        raise RuntimeError("index out of range\nat /secret/place")

    backend.answer = fail
    with pytest.raises(ModelFailed, match="index out of range") as caught:
        run(execution, X)
    assert caught.value.message == "the model failed: RuntimeError: index out of range"
    assert isinstance(caught.value.__cause__, RuntimeError)


@pytest.mark.parametrize("error", [InvalidInput("no"), RunnerBroken("gone")])
def test_errors_of_the_tree_pass(error: MeshError) -> None:
    backend = FakeBackend()
    execution, _ = load(backend, version())
    backend.answer = lambda inputs: (_ for _ in ()).throw(error)
    with pytest.raises(type(error)) as caught:
        run(execution, X)
    assert caught.value is error


def test_bytes_must_fit_the_shape() -> None:
    execution, _ = load(FakeBackend(), version())
    with pytest.raises(BadTensor, match="expected 32 bytes"):
        run(execution, X, shape=[4, 2])


@pytest.mark.parametrize("name", ["", "z"])
def test_other_inputs_are_refused(name: str) -> None:
    execution, _ = load(FakeBackend(), version())
    with pytest.raises(InvalidInput, match="inputs: expected 'x'"):
        run(execution, X, name=name)


def test_other_outputs_are_refused() -> None:
    execution, _ = load(FakeBackend(), version())
    with pytest.raises(InvalidInput, match="outputs: the model has 'y', got 'z'"):
        run(execution, X, ["z"])


def test_arrays_are_aligned_wherever_they_come_from() -> None:
    backend = FakeBackend()
    execution, _ = load(backend, version())
    spec = runner_pb2.BufferSpec(name="x", datatype="FP32", shape=[1, 2])
    execution.run([spec], [memoryview(bytearray(b"\0" + struct.pack("<ff", 1, 2)))[1:]], [])
    assert backend.seen[-1]["x"].flags.aligned
    assert backend.seen[-1]["x"].tolist() == [[1, 2]]


def test_outputs_need_not_be_contiguous() -> None:
    backend = FakeBackend()
    execution, _ = load(backend, version())
    backend.answer = lambda inputs: {"y": np.asfortranarray(inputs["x"])}
    assert (run(execution, X)["y"] == X).all()


def test_text_travels_both_ways() -> None:
    described = model_pb2.ModelVersion(backend="fake")
    described.signature.inputs.add(name="x", datatype="BYTES", shape=[-1])
    described.signature.outputs.add(name="y", datatype="BYTES", shape=[-1])
    backend = FakeBackend(lambda inputs: {"y": np.array([item.upper() for item in inputs["x"]], object)})
    execution, _ = load(backend, described)
    texts = encode(np.array([b"ab", b""], object))
    spec = runner_pb2.BufferSpec(name="x", datatype="BYTES", shape=[2])
    outputs, _ = execution.run([spec], [memoryview(texts)], [])
    assert bytes(outputs[0].data) == encode(np.array([b"AB", b""], object))


def with_sample(expected: Any, x: Any = X) -> model_pb2.ModelVersion:
    described = version()
    sample = described.samples.add()
    sample.inputs.add(name="x", datatype="FP32", shape=x.shape, data=encode(x))
    sample.outputs.add(name="y", datatype="FP32", shape=expected.shape, data=encode(expected))
    return described


def test_a_golden_sample_that_is_reproduced_is_the_probe() -> None:
    backend = FakeBackend()
    load(backend, with_sample(X * 2))
    assert (backend.seen[0]["x"] == X).all()


def test_a_golden_sample_that_is_not_reproduced_names_the_tensor() -> None:
    wrong = X * 2
    wrong[2, 1] = 7
    with pytest.raises(LoadFailed) as caught:
        load(FakeBackend(), with_sample(wrong))
    assert caught.value.message == (
        'golden check: sample 0: output "y" row 2 element [1]: expected 7, got 10 (max abs diff 3)'
    )
    assert caught.value.reason == "GOLDEN_CHECK_FAILED"


def test_a_sample_that_the_model_can_not_run_fails_the_check() -> None:
    with pytest.raises(LoadFailed, match="golden check: sample 0: the model failed: ZeroDivisionError"):
        load(FakeBackend(lambda inputs: 1 // 0), with_sample(X * 2))


def test_a_sample_whose_bytes_do_not_fit_fails_the_check() -> None:
    described = with_sample(X * 2)
    described.samples[0].inputs[0].shape[:] = [9, 9]
    with pytest.raises(LoadFailed, match="golden check: sample 0: tensor 'x': expected 324 bytes"):
        load(FakeBackend(), described)


def fails_beyond(rows: int) -> FakeBackend:
    def answer(inputs: Any) -> Any:
        if len(inputs["x"]) > rows:
            raise RuntimeError("out of memory")
        return {"y": inputs["x"]}

    return FakeBackend(answer)


def test_a_batch_size_that_fails_at_warm_up_fails_the_load() -> None:
    with pytest.raises(LoadFailed, match="warm-up: the model failed: RuntimeError: out of memory"):
        load(fails_beyond(4), version(8))
    load(fails_beyond(4), version(4))


def test_zeros_need_not_suit_a_model_whose_sizes_are_open() -> None:
    described = version()
    described.signature.inputs[0].shape[:] = [-1, -1]
    _, loaded = load(fails_beyond(0), described)
    assert loaded.batch_times == ()


@pytest.mark.parametrize("name", ["nope", ""])
def test_unknown_backends_name_the_known(name: str) -> None:
    described = version()
    described.backend = name
    with pytest.raises(LoadFailed, match="backend: expected one of fake"):
        load(FakeBackend(), described)


def test_without_a_signature_nothing_is_loaded() -> None:
    with pytest.raises(LoadFailed, match="signature"):
        load(FakeBackend(), model_pb2.ModelVersion(backend="fake"))


@pytest.mark.parametrize(
    ("error", "text"), [(ValueError("a\nb"), "ValueError: a"), (KeyError(), "KeyError"), (OSError("x" * 999), None)]
)
def test_descriptions_are_short(error: Exception, text: str | None) -> None:
    assert describe(error) == (text or "OSError: " + "x" * 300)


def entry(folder: Path, *paths: str, **options: str) -> LoadContext:
    described = model_pb2.ModelVersion(options=options)
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()
        described.files.add(path=path)
    return LoadContext(described, folder, "cpu", 1, False, {})


def test_the_only_file_of_its_kind_is_the_entry(tmp_path: Path) -> None:
    assert entry_file(entry(tmp_path, "sub/a.onnx", "labels.txt"), (".onnx",)) == tmp_path / "sub/a.onnx"


def test_an_option_names_the_entry(tmp_path: Path) -> None:
    assert entry_file(entry(tmp_path, "a.onnx", "b.onnx", entry="b.onnx"), (".onnx",)) == tmp_path / "b.onnx"


@pytest.mark.parametrize(
    ("paths", "option", "text"),
    [
        (["a.onnx", "b.onnx"], "", "exactly one file.*a.onnx, b.onnx"),
        (["a.txt"], "", "exactly one file.*got a.txt"),
        ([], "", "got no files"),
        (["a.onnx"], "b.onnx", "not among the version's files"),
        (["a.txt"], "a.txt", "expected a name ending in .onnx"),
        (["a.onnx"], "../a.onnx", "inside the version's folder"),
        (["a.onnx"], "/etc/passwd.onnx", "inside the version's folder"),
    ],
)
def test_an_entry_that_is_not_clear_is_named(tmp_path: Path, paths: list[str], option: str, text: str) -> None:
    options = {"entry": option} if option else {}
    with pytest.raises(LoadFailed, match=text):
        entry_file(entry(tmp_path, *paths, **options), (".onnx",))
