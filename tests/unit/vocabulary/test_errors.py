"""The tree of errors: complete, documented, and what its docstring draws."""

import inspect
import re
import subprocess
import sys

import pytest

from infermesh import errors
from infermesh.errors import MeshError

CLASSES = [cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, MeshError)]
LEAVES = [cls for cls in CLASSES if cls is not MeshError]


def _drawn() -> dict[str, str]:
    """Returns each class in the docstring's tree with its parent there."""
    parents = {}
    path = ["MeshError"]
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"(?P<indent>[│ ]*)[├└]── (?P<name>\w+)", line)
        if found:
            depth = len(found["indent"]) // 4 + 1
            path[depth:] = [found["name"]]
            parents[found["name"]] = path[depth - 1]
    return parents


def test_the_docstring_draws_the_tree() -> None:
    assert _drawn() == {cls.__name__: cls.__base__.__name__ for cls in LEAVES if cls.__base__}


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_class_says_what_it_is(cls: type[MeshError]) -> None:
    assert cls.__doc__
    assert cls.__dict__.get("reason"), f"{cls.__name__} has no reason of its own"
    assert re.fullmatch(r"[A-Z][A-Z0-9_]*", cls.reason)
    assert len(cls.reason) <= 63  # google.rpc.ErrorInfo


def test_reasons_are_unique() -> None:
    reasons = [cls.reason for cls in LEAVES]
    assert len(set(reasons)) == len(reasons)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_class_carries_its_data(cls: type[MeshError]) -> None:
    error = cls("text", metadata={"a": "b"}, retry_after=1.5, violations=[("f", "d")], reason="MORE_EXACT")
    assert (str(error), error.message) == ("text", "text")
    assert (error.metadata, error.retry_after, error.violations) == ({"a": "b"}, 1.5, (("f", "d"),))
    assert error.reason == "MORE_EXACT"
    assert cls("x").reason == cls.reason != "MORE_EXACT"


def test_metadata_is_a_copy() -> None:
    metadata = {"a": "b"}
    error = MeshError("x", metadata=metadata)
    metadata["a"] = "c"
    assert error.metadata == {"a": "b"}


def test_bad_tensor_says_name_expected_and_got() -> None:
    error = errors.BadTensor.of("image", "FP32[-1,4]", "FP64[1,4]")
    assert str(error) == "tensor 'image': expected FP32[-1,4], got FP64[1,4]"
    assert error.metadata == {"tensor": "image", "expected": "FP32[-1,4]", "got": "FP64[1,4]"}
    assert error.violations == (("inputs.image", "expected FP32[-1,4], got FP64[1,4]"),)


@pytest.mark.parametrize(
    ("kind", "hint", "text", "reason"),
    [
        ("model", "", "model 'm' not found", "MODEL_NOT_FOUND"),
        ("model version", "push it", "model version 'm' not found: push it", "MODEL_VERSION_NOT_FOUND"),
    ],
)
def test_not_found_says_what(kind: str, hint: str, text: str, reason: str) -> None:
    error = errors.NotFound.of(kind, "m", hint)
    assert (str(error), error.reason, error.metadata) == (text, reason, {"kind": kind, "name": "m"})


def test_errors_bring_nothing_with_them() -> None:
    code = (
        "import sys, infermesh.errors; print([m for m in ('grpc', 'google', 'numpy', 'pydantic') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
