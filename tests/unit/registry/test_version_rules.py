"""What a version may look like: one case for each thing that may be wrong with it."""

import math
import ntpath
import posixpath
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infermesh import datatypes
from infermesh.errors import BadTensor, InvalidInput
from infermesh.registry.rules.digests import request_digest, version_digest
from infermesh.registry.rules.versions import check_path, check_version
from infermesh.v1.model_pb2 import ModelFile, ModelVersion, Sample
from infermesh.v1.model_service_pb2 import CreateModelRequest, GetModelRequest
from infermesh.v1.tensor_pb2 import Tensor, TensorSpec
from tests.unit.registry.messages import CONTENT, digest, tensor, version

Change = Callable[[ModelVersion], object]


def file(path: str = "a", name: str = digest(CONTENT), size: int = 7) -> ModelFile:
    """Returns a file of a version."""
    return ModelFile(path=path, digest=name, size_bytes=size)


def put(target: str, value: object) -> Change:
    """Returns a change that sets a field; `signature.inputs.0.name` is a path."""

    def change(message: ModelVersion) -> None:
        *path, last = target.split(".")
        node: object = message
        for part in path:
            node = node[int(part)] if part.isdigit() else getattr(node, part)  # type: ignore[index]
        if isinstance(value, list):
            del getattr(node, last)[:]
            getattr(node, last).extend(value)
        else:
            setattr(node, last, value)

    return change


def test_a_good_version_passes() -> None:
    check_version(version())


@pytest.mark.parametrize(
    "change",
    [
        put("max_batch_size", 2),
        put("samples", []),
        put("samples.0.inputs", [tensor("x", 8, 4)]),
        put("device", "cuda"),
        put("device", "any"),
        put("files", [file("a"), file("b/c"), file("b/d"), file("model.pt2")]),
        put("files", [file("model.pt2/weights")]),
        lambda v: (put("max_batch_size", 0)(v), put("signature.inputs.0.shape", [2, 4])(v)),
        lambda v: v.options.clear(),
        lambda v: v.options.update({"class": "Model"}),
    ],
)
def test_other_good_versions_pass(change: Change) -> None:
    good = version()
    change(good)
    if good.samples and good.samples[0].inputs[0].shape[0] == 8:
        put("samples.0.outputs", [tensor("y", 8, 2)])(good)
    check_version(good)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (put("backend", ""), "backend"),
        (put("backend", "../x"), "backend"),
        (put("files", []), "version.files"),
        (put("files", [file("../a")]), "version.files[0].path"),
        (put("files", [file("a"), file("a")]), "version.files[1].path"),
        (put("files", [file("a"), file("a/b")]), "version.files"),
        (put("files.0.digest", "md5:1"), "version.files[0].digest"),
        (put("files.0.digest", "sha256:" + "A" * 64), "version.files[0].digest"),
        (put("files.0.size_bytes", -1), "version.files[0].size_bytes"),
        (put("max_batch_size", -1), "version.max_batch_size"),
        (put("memory_bytes", -1), "version.memory_bytes"),
        (put("device", "gpu"), "version.device"),
        (lambda v: v.labels.update({str(n): "" for n in range(65)}), "version.labels"),
        (lambda v: v.labels.update({"": "x"}), "version.labels"),
        (lambda v: v.labels.update({"k": "x" * 1025}), "version.labels[k]"),
        (lambda v: v.options.update({str(n): "" for n in range(65)}), "version.options"),
        (lambda v: v.options.update({"k": "x" * 5000}), "version.options[k]"),
        (lambda v: v.options.update({"entry": "other.pt2"}), "version.options[entry]"),
        (put("signature.inputs", []), "version.signature.inputs"),
        (put("signature.outputs", []), "version.signature.outputs"),
        (put("signature.inputs.0.name", ""), "version.signature.inputs[0].name"),
        (put("signature.inputs.0.name", "a\nb"), "version.signature.inputs[0].name"),
        (put("signature.inputs.0.datatype", "float32"), "version.signature.inputs[0].datatype"),
        (put("signature.inputs.0.shape", [-1, 0]), "version.signature.inputs[0].shape"),
        (put("signature.inputs.0.shape", [-1, -2]), "version.signature.inputs[0].shape"),
        (put("signature.inputs.0.shape", [4, 4]), "version.signature.inputs[0].shape"),
        (put("signature.outputs.0.shape", []), "version.signature.outputs[0].shape"),
        (put("signature.inputs.0.shape", [-1] * 33), "version.signature.inputs[0].shape"),
        (
            lambda v: v.signature.inputs.append(TensorSpec(name="x", datatype="FP32", shape=[-1])),
            "version.signature.inputs[1].name",
        ),
        (put("samples", [version().samples[0]] * 17), "version.samples"),
        (put("samples.0.outputs", []), "version.samples[0].outputs"),
        (put("samples.0.atol", -1.0), "version.samples[0].atol"),
        (put("samples.0.rtol", math.nan), "version.samples[0].rtol"),
        (put("samples.0.atol", math.inf), "version.samples[0].atol"),
        (put("samples.0.inputs", [tensor("x", 3, 4)]), "version.samples[0]"),
        (put("max_batch_size", 1), "version.samples[0]"),
    ],
)
def test_a_bad_field_is_named(change: Change, named: str) -> None:
    wrong = version()
    change(wrong)
    with pytest.raises(InvalidInput) as caught:
        check_version(wrong)
    assert named in caught.value.message
    assert caught.value.violations


@pytest.mark.parametrize(
    ("change", "name", "expected"),
    [
        (put("samples.0.inputs", []), "x", "one tensor for every input"),
        (put("samples.0.inputs.0.name", "z"), "z", "a name of the signature"),
        (put("samples.0.inputs", [tensor("x", 2, 4)] * 2), "x", "once"),
        (put("samples.0.outputs.0.name", "x"), "x", "a name of the signature"),
        (put("samples.0.inputs.0.datatype", "FP64"), "x", "datatype FP32"),
        (put("samples.0.inputs.0.shape", [2, 5]), "x", "shape [-1, 4]"),
        (put("samples.0.inputs.0.shape", [8]), "x", "shape [-1, 4]"),
        (put("samples.0.inputs.0.shape", [-1, 4]), "x", "shape [-1, 4]"),
        (put("samples.0.inputs.0.data", bytes(31)), "x", "32 bytes"),
    ],
)
def test_a_bad_sample_names_the_tensor(change: Change, name: str, expected: str) -> None:
    wrong = version()
    change(wrong)
    with pytest.raises(BadTensor) as caught:
        check_version(wrong)
    assert caught.value.metadata["tensor"] == name
    assert expected in caught.value.metadata["expected"]


def test_samples_are_limited_in_size() -> None:
    wide = 2**20
    wrong = version(samples=[])
    put("signature.inputs.0.shape", [-1, wide])(wrong)
    put("samples", [Sample(inputs=[tensor("x", 1, wide)], outputs=[tensor("y", 1, 2)])] * 2)(wrong)
    with pytest.raises(InvalidInput, match=f"at most {8 * 2**20} bytes"):
        check_version(wrong)


@pytest.mark.parametrize("data", [datatypes.encode_bytes([b"a"]), datatypes.encode_bytes([b"a", b"b"])[:-1]])
def test_text_samples_are_counted_and_their_framing_checked(data: bytes) -> None:
    text = version()
    put("signature.inputs.0.datatype", "BYTES")(text)
    put("signature.inputs.0.shape", [-1])(text)
    good = Tensor(name="x", datatype="BYTES", shape=[2], data=datatypes.encode_bytes([b"", "ä".encode()]))
    put("samples.0.inputs", [good])(text)
    check_version(text)
    put("samples.0.inputs.0.data", data)(text)
    with pytest.raises(BadTensor):
        check_version(text)


@pytest.mark.parametrize(
    "path",
    ["", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "a/./b", "a\\b", "a\0b", "a\nb", "C:a", "x" * 256, "a/" * 600],
)
def test_an_unsafe_path_is_refused(path: str) -> None:
    with pytest.raises(InvalidInput):
        check_path("path", path)


@given(st.text(max_size=40))
def test_a_path_that_passes_stays_inside_its_folder(path: str) -> None:
    try:
        check_path("path", path)
    except InvalidInput:
        return
    for flavour in (posixpath, ntpath):
        assert not flavour.isabs(path)
        assert not flavour.splitdrive(path)[0]
        assert flavour.normpath(path).replace("\\", "/") == path


def test_the_digest_is_the_same_in_every_release() -> None:
    # a golden value: if this fails, digests of stored versions no longer mean what they did
    assert version_digest(version()) == "sha256:ccc6eefd9d5e91be9411685a2fa540200fd20e407066f8078b5288b174228155"


@pytest.mark.parametrize(
    "change",
    [
        put("backend", "onnx"),
        put("files.0.path", "other"),
        put("files.0.digest", digest(b"other")),
        put("signature.inputs.0.name", "z"),
        put("signature.inputs.0.datatype", "FP16"),
        put("signature.outputs.0.shape", [-1, 3]),
        put("samples.0.outputs.0.data", bytes(15) + b"\1"),
        put("samples.0.atol", 0.5),
        put("max_batch_size", 9),
        put("device", "cpu"),
        put("memory_bytes", 1),
        lambda v: v.options.update({"class": "x"}),
    ],
)
def test_whatever_changes_behaviour_changes_the_digest(change: Change) -> None:
    changed = version()
    change(changed)
    assert version_digest(changed) != version_digest(version())


def test_names_labels_and_the_order_of_files_do_not_change_the_digest() -> None:
    files = [file("a"), file("b")]
    one = version(files=files, labels={"team": "vision"}, name="models/x/versions/9")
    other = version()
    put("files", [files[1], *other.files, files[0]])(other)
    assert version_digest(one) == version_digest(other)


def test_requests_of_different_kinds_never_look_alike() -> None:
    assert request_digest(CreateModelRequest(model_id="a")) != request_digest(GetModelRequest(name="a"))
    one, other = CreateModelRequest(), CreateModelRequest()
    one.model.labels.update({"a": "1", "b": "2"})
    other.model.labels.update({"b": "2", "a": "1"})
    assert request_digest(one) == request_digest(other)
