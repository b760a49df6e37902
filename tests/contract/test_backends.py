"""Every backend behaves alike: the same numbers, whatever the form of the model and the split into batches."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infermesh.errors import LoadFailed
from infermesh.worker import backends
from infermesh.worker.backends.base import Backend, LoadContext
from tests.contract.backend_models import FORMS, expected, features, version, write

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
Loader = Callable[..., Backend]


@pytest.fixture(scope="module", params=FORMS)
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def folder(form: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp(form)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what torch says while it exports is not what is tested
        write(form, place)
    return place


def context(form: str, folder: Path, **changes: Any) -> LoadContext:
    settings: dict[str, Any] = {
        "version": version(form),
        "folder": folder,
        "device": "cpu",
        "threads": 1,
        "allow_python": True,
        "probe": {"x": features(2)},
    }
    return LoadContext(**{**settings, **changes})


@pytest.fixture(scope="module")
def backend(form: str, folder: Path) -> Iterator[Backend]:
    loaded = backends.table().load(version(form).backend)()
    loaded.load(context(form, folder))
    yield loaded
    loaded.close()


def infer(backend: Backend, x: Any, outputs: tuple[str, ...] = ("scores", "best")) -> Mapping[str, Any]:
    return backend.infer({"x": x.copy()}, outputs)


@pytest.mark.parametrize("rows", [1, 2, 7, 32])
def test_gives_the_numbers_of_the_model(backend: Backend, rows: int) -> None:
    x = features(rows)
    got, wanted = infer(backend, x), expected(x)
    assert got["scores"].dtype == np.float32
    assert got["best"].dtype == np.int64
    np.testing.assert_allclose(got["scores"], wanted["scores"], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(got["best"], wanted["best"])


def test_rows_do_not_depend_on_their_batch(backend: Backend) -> None:
    x = features(9)
    whole = infer(backend, x)["scores"].copy()
    parts = [infer(backend, part)["scores"].copy() for part in (x[:1], x[1:4], x[4:])]
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-5, atol=1e-6)


def test_a_call_leaves_nothing_behind_for_the_next(backend: Backend) -> None:
    first = infer(backend, features(3))["scores"].copy()
    infer(backend, np.full((5, 6), 1e6, np.float32))
    np.testing.assert_array_equal(infer(backend, features(3))["scores"], first)


def test_gives_the_outputs_that_are_named(backend: Backend) -> None:
    got = infer(backend, features(2), ("best",))
    np.testing.assert_array_equal(got["best"], expected(features(2))["best"])


def test_takes_a_batch_without_rows(backend: Backend) -> None:
    assert infer(backend, np.empty((0, 6), np.float32), ("scores",))["scores"].shape == (0, 3)


def test_threads_change_nothing_but_time(backend: Backend) -> None:
    before = infer(backend, features(8))["scores"].copy()
    backend.use_threads(2)
    np.testing.assert_allclose(infer(backend, features(8))["scores"], before, rtol=1e-5, atol=1e-6)
    backend.use_threads(1)


def test_on_the_cpu_the_memory_is_that_of_the_process(backend: Backend) -> None:
    assert backend.memory_bytes() is None


def test_a_missing_file_is_named(form: str, tmp_path: Path) -> None:
    described = version(form)
    described.options["entry"] = {"pt2": "gone.pt2", "torchscript": "gone.pt"}.get(form, f"gone.{form}")
    described.options["class"] = "gone:Model"
    with pytest.raises(LoadFailed, match="gone"):
        backends.table().load(described.backend)().load(context(form, tmp_path, version=described))


@pytest.mark.parametrize(
    "content", [b"", b"not a model", b"PK\x05\x06" + bytes(18)], ids=["empty", "text", "empty zip"]
)
def test_a_damaged_file_is_named(form: str, tmp_path: Path, content: bytes) -> None:
    name = {"pt2": "model.pt2", "torchscript": "model.pt", "onnx": "model.onnx", "python": "mlp.py"}[form]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(LoadFailed, match=name.partition(".")[0]):
        backends.table().load(version(form).backend)().load(context(form, tmp_path))


def test_names_other_than_the_signature_are_refused(form: str, folder: Path) -> None:
    if form == "python":
        pytest.skip("a class takes what it gets")
    described = version(form)
    described.signature.inputs.add(name="y", datatype="FP32", shape=[-1, 6])
    with pytest.raises(LoadFailed, match=r"'x', 'y'.*'x'"):
        backends.table().load(described.backend)().load(
            context(form, folder, version=described, probe={"x": features(1), "y": features(1)})
        )


@pytest.mark.parametrize(
    ("datatype", "shape"),
    [("FP64", [-1, 6]), ("FP32", [-1, 5]), ("FP32", [-1, 6, 1])],
    ids=["datatype", "size", "rank"],
)
def test_a_signature_that_the_model_contradicts_is_refused(
    form: str, folder: Path, datatype: str, shape: list[int]
) -> None:
    if form not in ("onnx", "pt2"):
        pytest.skip("the form does not say what it takes")
    described = version(form)
    described.signature.inputs[0].datatype = datatype
    described.signature.inputs[0].shape[:] = shape
    with pytest.raises(LoadFailed, match=r"input 'x': the signature says .* the model has FP32\[-1, 6\]"):
        backends.table().load(described.backend)().load(context(form, folder, version=described))


def test_the_table_names_what_is_installed() -> None:
    assert set(backends.available()) >= {"onnx", "python", "torch"}
