"""Batches are joined and cut so that every call gets its own rows; classification orders them."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infermesh.datatypes import decode_bytes, encode_bytes
from infermesh.errors import Internal, InvalidInput
from infermesh.oip.v2 import grpc_service_pb2 as oip
from infermesh.tensors import encode
from infermesh.worker.calls import Call
from infermesh.worker.classification import top_classes
from infermesh.worker.frames import Output
from infermesh.worker.oip_codec import Codec
from infermesh.worker.results import cut, join, outputs_of, respond
from tests.unit.worker.worker_fakes import request_of, values_of, version_of


def call_of(codec: Codec, message: oip.ModelInferRequest, streamed: bool = False) -> Call:
    request = codec.read(message)
    return Call(request, lambda call: None, None, streamed, request.rows, request.group, 0.0, 0.0)


@given(st.lists(st.integers(1, 8), min_size=1, max_size=6))
def test_every_call_gets_its_own_rows(counts: list[int]) -> None:
    codec = Codec("d", "1", version_of())
    batch = [call_of(codec, request_of(rows, float(number))) for number, rows in enumerate(counts)]
    (buffer,) = join(codec, batch)
    assert tuple(buffer.shape) == (sum(counts), 2)
    data = memoryview(b"".join(buffer.parts))
    for number, (call, pieces) in enumerate(
        zip(batch, cut(codec, batch, [Output("y", "FP32", tuple(buffer.shape), data)]), strict=True)
    ):
        response = oip.ModelInferResponse.FromString(respond(codec, call, pieces))
        assert list(response.outputs[0].shape) == [call.rows, 2]
        assert values_of(response.SerializeToString()) == [float(number)] * (2 * call.rows)


@given(
    st.lists(
        st.lists(st.lists(st.binary(max_size=9), min_size=2, max_size=2), min_size=1, max_size=3),
        min_size=1,
        max_size=4,
    )
)
def test_bytes_are_cut_by_their_elements(calls: list[list[list[bytes]]]) -> None:
    codec = Codec("d", "1", version_of(outputs=[("y", "BYTES", (-1, 2))]))
    batch = [call_of(codec, request_of(len(rows))) for rows in calls]
    everything = encode_bytes(item for rows in calls for row in rows for item in row)
    shape = (sum(map(len, calls)), 2)
    for rows, pieces in zip(
        calls, cut(codec, batch, [Output("y", "BYTES", shape, memoryview(everything))]), strict=True
    ):
        assert decode_bytes("y", pieces[0][3]) == [item for row in rows for item in row]


@pytest.mark.parametrize("shape", [(), (3, 2), (1, 2)])
def test_an_output_without_the_rows_of_the_batch_is_our_fault(shape: tuple[int, ...]) -> None:
    codec = Codec("d", "1", version_of())
    batch = [call_of(codec, request_of()), call_of(codec, request_of())]
    with pytest.raises(Internal, match="expected 2 rows"):
        cut(codec, batch, [Output("y", "FP32", shape, memoryview(b"\0" * 24))])


def test_without_a_batch_dimension_outputs_pass_as_they_are() -> None:
    codec = Codec("d", "1", version_of([("x", "FP32", (1, 2))], [("y", "FP32", (3,))], max_batch_size=0))
    batch = [call_of(codec, request_of())]
    output = Output("y", "FP32", (3,), memoryview(b"\0" * 12))
    assert cut(codec, batch, [output]) == [[("y", "FP32", (3,), output.data)]]


def wanting(*names: str) -> oip.ModelInferRequest:
    message = request_of()
    for name in names:
        message.outputs.add(name=name)
    return message


@pytest.mark.parametrize(
    ("wishes", "asked"),
    [([("y",), ("z",)], ("y", "z")), ([("z",), ("z",)], ("z",)), ([("y",), ()], ()), ([("y", "z", "w")], ())],
)
def test_the_runner_is_asked_for_what_some_call_wants(wishes: list[tuple[str, ...]], asked: tuple[str, ...]) -> None:
    outputs = [(name, "FP32", (-1, 2)) for name in "yzw"]
    codec = Codec("d", "1", version_of(outputs=outputs))
    assert outputs_of(codec, [call_of(codec, wanting(*names)) for names in wishes]) == asked


def test_outputs_come_in_the_wanted_order_and_streams_end() -> None:
    codec = Codec("d", "1", version_of(outputs=[("y", "INT8", (-1,)), ("z", "INT8", (-1,))]))
    call = call_of(codec, wanting("z", "y"), streamed=True)
    pieces: list[Any] = [("y", "INT8", (1,), b"y"), ("z", "INT8", (1,), b"z")]
    response = oip.ModelInferResponse.FromString(respond(codec, call, pieces))
    assert [output.name for output in response.outputs] == ["z", "y"]
    assert list(response.raw_output_contents) == [b"z", b"y"]
    assert response.parameters["triton_final_response"].bool_param is True


def test_classification_answers_with_the_top_classes_of_each_row() -> None:
    values = np.array([[0.1, 0.7, 0.2], [0.5, 0.5, 0.0]], np.float32)
    name, datatype, shape, data = top_classes("y", "FP32", (2, 3), encode(values), 2, batched=True)
    assert (name, datatype, shape) == ("y", "BYTES", (2, 2))
    assert decode_bytes("y", data) == [b"0.700000:1", b"0.200000:2", b"0.500000:0", b"0.500000:1"]


def test_classification_of_integers_more_classes_than_there_are_and_no_batch() -> None:
    values = np.array([3, -1, 7], np.int64)
    _, _, shape, data = top_classes("y", "INT64", (3,), encode(values), 9, batched=False)
    assert shape == (3,)
    assert decode_bytes("y", data) == [b"7:2", b"3:0", b"-1:1"]


def test_classification_needs_numbers() -> None:
    with pytest.raises(InvalidInput, match="expected numbers, got BYTES"):
        top_classes("y", "BYTES", (1,), b"", 1, batched=True)
