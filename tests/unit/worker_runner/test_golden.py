"""The golden check names the tensor, the place and both values."""

from typing import Any

import numpy as np
import pytest

from infermesh.tensors import datatype_of, encode
from infermesh.v1 import model_pb2
from infermesh.worker import golden

NAN, INF = float("nan"), float("inf")


def sample(expected: Any, *, datatype: str = "", atol: float = 0, rtol: float = 0) -> model_pb2.Sample:
    recorded = model_pb2.Sample(atol=atol, rtol=rtol)
    array = np.asarray(expected)
    recorded.outputs.add(name="out", datatype=datatype or datatype_of(array), shape=array.shape, data=encode(array))
    return recorded


def f32(*values: float) -> Any:
    return np.array(values, np.float32)


@pytest.mark.parametrize(
    ("expected", "got"),
    [
        (f32(1, 2), f32(1, 2)),
        (f32(1000), f32(1000.9)),
        (f32(0), f32(0.00009)),
        (f32(NAN, INF, -INF), f32(NAN, INF, -INF)),
        (np.array([1, 2]), np.array([1, 2])),
        (np.array([True]), np.array([True])),
        (np.array([b"a", b""], object), np.array([b"a", b""], object)),
        (np.array([b"a"], object), np.array(["a"], object)),
        (np.empty((0, 3), np.float32), np.empty((0, 3), np.float32)),
    ],
)
def test_equal_within_tolerance(expected: Any, got: Any) -> None:
    assert golden.mismatch(sample(expected), {"out": got}) is None


@pytest.mark.parametrize(
    ("expected", "got", "text"),
    [
        (f32(1, 2), f32(1, 2.01), 'output "out" row 1: expected 2, got 2.01 (max abs diff 0.01)'),
        (f32(NAN), f32(1), 'output "out" row 0: expected nan, got 1 (max abs diff 0)'),
        (f32(1), f32(NAN), 'output "out" row 0: expected 1, got nan (max abs diff 0)'),
        (f32(INF), f32(-INF), 'output "out" row 0: expected inf, got -inf (max abs diff inf)'),
        (f32(1, 2), f32(1), 'output "out": expected shape [2], got [1]'),
        (np.array([[1, 2], [3, 4]]), np.array([[1, 2], [3, 5]]), 'output "out" row 1 element [1]: expected 4, got 5'),
        (np.array([b"a"], object), np.array([b"b"], object), "output \"out\" row 0: expected b'a', got b'b'"),
        (np.array(1.5), np.array(2.5), 'output "out": expected 1.5, got 2.5 (max abs diff 1)'),
    ],
)
def test_the_difference_is_named(expected: Any, got: Any, text: str) -> None:
    assert golden.mismatch(sample(expected), {"out": got}) == text


def test_tolerances_of_the_sample_replace_the_defaults() -> None:
    assert golden.mismatch(sample(f32(1), atol=0.5, rtol=1e-9), {"out": f32(1.4)}) is None
    assert golden.mismatch(sample(f32(1), atol=1e-9, rtol=1e-9), {"out": f32(1.00001)}) is not None


def test_a_recorded_output_must_be_given() -> None:
    assert "does not give it" in str(golden.mismatch(sample(f32(1)), {"other": f32(1)}))


def test_outputs_that_were_not_recorded_are_not_compared() -> None:
    assert golden.mismatch(sample(f32(1)), {"out": f32(1), "other": f32(5)}) is None


def test_bfloat16_is_compared_by_value() -> None:
    one, nearly, two = np.uint16(0x3F80), np.uint16(0x3F81), np.uint16(0x4000)
    recorded = sample(np.array([one]), datatype="BF16", atol=0.01)
    assert golden.mismatch(recorded, {"out": np.array([nearly])}) is None
    text = golden.mismatch(recorded, {"out": np.array([two])})
    assert text == 'output "out" row 0: expected 1, got 2 (max abs diff 1)'


def test_inputs_are_the_backends_to_change() -> None:
    recorded = model_pb2.Sample()
    recorded.inputs.add(name="x", datatype="FP32", shape=[2], data=encode(f32(1, 2)))
    assert golden.inputs_of(recorded)["x"].flags.writeable
