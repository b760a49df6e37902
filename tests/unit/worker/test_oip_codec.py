"""Requests are read and refused by the signature; responses are what the protocol's own classes would write."""

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infermesh.datatypes import encode_bytes
from infermesh.errors import BadTensor, InvalidInput, MeshError, Unsupported
from infermesh.oip.v2 import grpc_service_pb2 as oip
from infermesh.worker.oip_codec import Codec
from infermesh.worker.oip_request import Wanted
from tests.unit.worker.worker_fakes import floats, request_of, version_of

Param = oip.InferParameter


def codec_of(*args: Any, **kwargs: Any) -> Codec:
    return Codec("d", "2", version_of(*args, **kwargs))


def test_reads_a_raw_request() -> None:
    request = codec_of().parse(request_of(rows=3, id="abc").SerializeToString())
    assert (request.id, request.rows, request.shapes, request.wanted) == ("abc", 3, [(3, 2)], ())
    assert request.buffers == [floats(*[1.0] * 6)]


def test_puts_inputs_into_the_order_of_the_signature() -> None:
    codec = codec_of(inputs=[("a", "INT8", (-1,)), ("b", "INT16", (-1,))])
    message = oip.ModelInferRequest()
    message.inputs.add(name="b", datatype="INT16", shape=[2])
    message.inputs.add(name="a", datatype="INT8", shape=[2])
    message.raw_input_contents.extend([b"bbbb", b"aa"])
    for _ in range(2):  # read, then remembered
        request = codec.parse(message.SerializeToString())
        assert request.buffers == [b"aa", b"bbbb"]
        assert request.shapes == [(2,), (2,)]


@pytest.mark.parametrize(
    ("datatype", "field", "values", "raw"),
    [
        ("FP32", "fp32_contents", [1.0, 2.0], struct.pack("<2f", 1, 2)),
        ("FP64", "fp64_contents", [1.0, 2.0], struct.pack("<2d", 1, 2)),
        ("INT8", "int_contents", [-1, 2], struct.pack("<2b", -1, 2)),
        ("INT16", "int_contents", [-1, 2], struct.pack("<2h", -1, 2)),
        ("INT32", "int_contents", [-1, 2], struct.pack("<2i", -1, 2)),
        ("INT64", "int64_contents", [-1, 2], struct.pack("<2q", -1, 2)),
        ("UINT8", "uint_contents", [1, 255], b"\x01\xff"),
        ("UINT16", "uint_contents", [1, 2], struct.pack("<2H", 1, 2)),
        ("UINT32", "uint_contents", [1, 2], struct.pack("<2I", 1, 2)),
        ("UINT64", "uint64_contents", [1, 2**64 - 1], struct.pack("<2Q", 1, 2**64 - 1)),
        ("BOOL", "bool_contents", [True, False], b"\x01\x00"),
        ("BYTES", "bytes_contents", [b"a", b""], encode_bytes([b"a", b""])),
    ],
)
def test_typed_contents_become_raw(datatype: str, field: str, values: list[Any], raw: bytes) -> None:
    codec = codec_of(inputs=[("x", datatype, (-1, 2))])
    message = oip.ModelInferRequest()
    tensor = message.inputs.add(name="x", datatype=datatype, shape=[1, 2])
    getattr(tensor.contents, field).extend(values)
    assert codec.read(message).buffers == [raw]
    assert codec.parse(message.SerializeToString()).buffers == [raw]


def bad(**changes: Any) -> oip.ModelInferRequest:
    """Returns the good request with changes to its only input, or its raw contents (`raw`)."""
    message = request_of()
    raw = changes.pop("raw", None)
    if raw is not None:
        del message.raw_input_contents[:]
        message.raw_input_contents.extend(raw)
    shape = changes.pop("shape", None)
    if shape is not None:
        del message.inputs[0].shape[:]
        message.inputs[0].shape.extend(shape)
    for name, value in changes.items():
        setattr(message.inputs[0], name, value)
    return message


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (bad(name="z"), ["'z'", "'x'"]),
        (bad(datatype="FP64"), ["'x'", "FP32", "FP64"]),
        (bad(datatype=""), ["'x'", "(empty)"]),
        (bad(shape=[2]), ["'x'", "[-1, 2]", "[2]"]),
        (bad(shape=[1, 3]), ["'x'", "[-1, 2]", "[1, 3]"]),
        (bad(shape=[1, 1, 2]), ["'x'", "[-1, 2]"]),
        (bad(shape=[-1, 2]), ["'x'", "[-1, 2]"]),
        (bad(shape=[0, 2], raw=[b""]), ["'x'", "at least 1 row"]),
        (bad(raw=[b"1234567"]), ["'x'", "8 bytes", "7 bytes"]),
        (bad(raw=[b""]), ["'x'", "8 bytes", "0 bytes"]),
        (bad(raw=[floats(1, 2), b""]), ["raw_input_contents", "1", "2"]),
        (bad(shape=[2**40, 2], raw=[b""]), ["'x'", "bytes"]),
        (bad(shape=[9, 2], raw=[floats(*[0] * 18)]), ["8 rows", "max_batch_size", "got 9"]),
    ],
)
def test_refuses_what_does_not_fit_and_says_why(message: oip.ModelInferRequest, says: list[str]) -> None:
    with pytest.raises(InvalidInput) as caught:
        codec_of().parse(message.SerializeToString())
    assert all(word in caught.value.message for word in says), caught.value.message
    assert caught.value.violations or "raw_input_contents" in says


def test_refuses_missing_and_doubled_inputs_and_rows_that_differ() -> None:
    codec = codec_of(inputs=[("a", "INT8", (-1,)), ("b", "INT8", (-1,))])

    def message(*tensors: tuple[str, int]) -> oip.ModelInferRequest:
        made = oip.ModelInferRequest()
        for name, rows in tensors:
            made.inputs.add(name=name, datatype="INT8", shape=[rows])
            made.raw_input_contents.append(b"\0" * rows)
        return made

    with pytest.raises(BadTensor, match="'b': expected an input of this name, got none"):
        codec.read(message(("a", 1)))
    with pytest.raises(BadTensor, match="'a': expected one tensor of this name, got two"):
        codec.read(message(("a", 1), ("a", 1)))
    with pytest.raises(BadTensor, match="'b': expected 1 rows as in tensor 'a', got 2 rows"):
        codec.read(message(("a", 1), ("b", 2)))


def test_refuses_raw_and_contents_together_stray_fields_and_values_that_do_not_fit() -> None:
    codec = codec_of(inputs=[("x", "UINT8", (-1, 2))])
    both = oip.ModelInferRequest()
    both.inputs.add(name="x", datatype="UINT8", shape=[1, 2]).contents.uint_contents.extend([1, 2])
    both.raw_input_contents.append(b"ab")
    with pytest.raises(BadTensor, match="either raw_input_contents or contents"):
        codec.read(both)
    stray = oip.ModelInferRequest()
    stray.inputs.add(name="x", datatype="UINT8", shape=[1, 2]).contents.fp32_contents.extend([1, 2])
    with pytest.raises(BadTensor, match=r"contents\.fp32_contents"):
        codec.read(stray)
    large = oip.ModelInferRequest()
    large.inputs.add(name="x", datatype="UINT8", shape=[1, 2]).contents.uint_contents.extend([1, 300])
    with pytest.raises(BadTensor, match="fit into UINT8, got from 1 to 300"):
        codec.read(large)
    half = oip.ModelInferRequest()
    half.inputs.add(name="x", datatype="FP16", shape=[1, 2]).contents.fp32_contents.extend([1, 2])
    with pytest.raises(BadTensor, match="raw_input_contents for FP16"):
        codec_of(inputs=[("x", "FP16", (-1, 2))]).read(half)


@pytest.mark.parametrize("raw", [b"\x01", b"\x05\0\0\0abc", encode_bytes([b"one"]), encode_bytes([b"a", b"b", b"c"])])
def test_refuses_bad_framing_of_bytes(raw: bytes) -> None:
    codec = codec_of(inputs=[("x", "BYTES", (-1, 2))])
    message = oip.ModelInferRequest()
    message.inputs.add(name="x", datatype="BYTES", shape=[1, 2])
    message.raw_input_contents.append(raw)
    with pytest.raises(BadTensor, match="'x'"):
        codec.parse(message.SerializeToString())


@pytest.mark.parametrize("payload", [b"\xff\xff", b"\x0a\x05ab", b"\x2a\x04\x0a\x02\xff\xfe"])
def test_refuses_bytes_that_are_no_request(payload: bytes) -> None:
    with pytest.raises(InvalidInput):
        codec_of().parse(payload)


def test_without_a_batch_dimension_shapes_are_taken_as_they_stand() -> None:
    codec = codec_of(inputs=[("x", "FP32", (2, -1))], max_batch_size=0)
    message = oip.ModelInferRequest()
    message.inputs.add(name="x", datatype="FP32", shape=[2, 3])
    message.raw_input_contents.append(b"\0" * 24)
    request = codec.read(message)
    assert (request.rows, request.group) == (1, None)


def test_requests_of_other_tail_shapes_are_of_another_group() -> None:
    codec = codec_of(inputs=[("x", "INT8", (-1, -1))])

    def group(tail: int) -> Any:
        message = oip.ModelInferRequest()
        message.inputs.add(name="x", datatype="INT8", shape=[1, tail])
        message.raw_input_contents.append(b"\0" * tail)
        return codec.read(message).group

    assert group(3) == group(3)
    assert group(3) != group(4)


def test_outputs_can_be_chosen_once_and_only_known_ones() -> None:
    codec = codec_of(outputs=[("y", "FP32", (-1, 2)), ("z", "FP32", (-1, 2))])
    message = request_of()
    message.outputs.add(name="z")
    message.outputs.add(name="y").parameters["classification"].int64_param = 3
    assert codec.read(message).wanted == (Wanted("z"), Wanted("y", 3))
    message.outputs.add(name="z")
    with pytest.raises(InvalidInput, match="'z' twice"):
        codec.read(message)
    other = request_of()
    other.outputs.add(name="w")
    with pytest.raises(InvalidInput, match="expected some of y, z, got 'w'"):
        codec.read(other)


@pytest.mark.parametrize(
    ("key", "value", "error"),
    [
        ("sequence_id", Param(int64_param=7), Unsupported),
        ("triton_secret", Param(bool_param=True), InvalidInput),
        ("timeout", Param(string_param="soon"), InvalidInput),
        ("timeout", Param(int64_param=-5), InvalidInput),
        ("priority", Param(bool_param=True), InvalidInput),
        ("shared_memory_region", Param(string_param="r"), Unsupported),
    ],
)
def test_refuses_parameters_that_it_does_not_do(key: str, value: oip.InferParameter, error: type[MeshError]) -> None:
    with pytest.raises(error, match=key):
        codec_of().read(request_of(parameters={key: value}))


@pytest.mark.parametrize("where", ["inputs", "outputs"])
def test_refuses_shared_memory_of_tensors(where: str) -> None:
    message = request_of()
    message.outputs.add(name="y")
    getattr(message, where)[0].parameters["shared_memory_region"].string_param = "r"
    with pytest.raises(Unsupported, match="shared memory"):
        codec_of().read(message)


@pytest.mark.parametrize("classes", [Param(int64_param=0), Param(int64_param=-1), Param(string_param="3")])
def test_refuses_a_senseless_classification(classes: oip.InferParameter) -> None:
    message = request_of()
    message.outputs.add(name="y").parameters["classification"].CopyFrom(classes)
    with pytest.raises(InvalidInput, match="classification"):
        codec_of().read(message)


def test_reads_what_parameters_ask_for() -> None:
    def wishes(**parameters: oip.InferParameter) -> Any:
        return codec_of().read(request_of(parameters=parameters)).wishes

    assert wishes(timeout=Param(int64_param=1500)).timeout == pytest.approx(0.0015)
    assert wishes(timeout=Param(int64_param=0)).timeout is None
    assert wishes(priority=Param(uint64_param=0)).priority == 0
    assert wishes(priority=Param(uint64_param=1)).priority == 0
    assert wishes(priority=Param(uint64_param=3)).priority == -2
    quiet = {"triton_enable_empty_final_response": Param(bool_param=True), "sequence_id": Param(int64_param=0)}
    assert wishes(**quiet, mine=Param(string_param="v")).priority == 0


PIECES = st.lists(
    st.tuples(
        st.text(max_size=5),
        st.sampled_from(["FP32", "INT8"]),
        st.lists(st.integers(0, 300), max_size=3),
        st.binary(max_size=400),
    ),
    max_size=3,
)


@given(PIECES, st.text(max_size=200), st.booleans())
def test_writes_what_the_protocols_own_class_writes(pieces: list[Any], id: str, final: bool) -> None:
    codec = codec_of()
    request = codec.read(request_of(id=id))
    written = codec.respond(request, [(n, d, tuple(s), memoryview(data)) for n, d, s, data in pieces], final)
    expected = oip.ModelInferResponse(model_name="d", model_version="2", id=id)
    if final:
        expected.parameters["triton_final_response"].bool_param = True
    for name, datatype, shape, data in pieces:
        expected.outputs.add(name=name, datatype=datatype, shape=shape)
        expected.raw_output_contents.append(data)
    assert oip.ModelInferResponse.FromString(written) == expected


MESSAGES = st.builds(
    lambda rows, id, name, number, values: request_of(rows, values, id, model_version=number),
    st.integers(1, 9),
    st.text(max_size=140),
    st.just("d"),
    st.sampled_from(["", "2"]),
    st.floats(width=32, allow_nan=False),
)


@given(st.lists(MESSAGES, min_size=1, max_size=12), st.integers(0, 400), st.binary(min_size=1, max_size=3))
def test_a_remembered_form_gives_exactly_what_parsing_gives(
    messages: list[oip.ModelInferRequest], at: int, noise: bytes
) -> None:
    remembering = codec_of()
    payloads = [message.SerializeToString() for message in messages]
    payloads += payloads  # the second time they are remembered, where they can be
    # and bytes that look almost like one that is remembered
    payloads += [
        payload[: at % len(payload)] + noise + payload[at % len(payload) + len(noise) :] for payload in payloads
    ]
    for payload in payloads:
        assert outcome(remembering, payload) == outcome(codec_of(), payload)


@pytest.mark.parametrize("id", ["", "7", "x" * 127, "x" * 128, "é" * 100])
def test_the_id_is_kept_however_long_it_is_and_however_often_it_comes(id: str) -> None:
    codec = codec_of()
    for _ in range(3):
        assert codec.parse(request_of(id=id).SerializeToString()).id == id


def test_of_two_ids_the_last_one_counts_as_in_protobuf() -> None:
    codec = codec_of()
    twice = oip.ModelInferRequest(id="first").SerializeToString() + request_of(id="last").SerializeToString()
    assert [codec.parse(twice).id for _ in range(3)] == ["last"] * 3
    equal = oip.ModelInferRequest(id="same").SerializeToString() + request_of(id="same").SerializeToString()
    other = equal.replace(b"same", b"diff", 1)
    assert [codec.parse(payload).id for payload in (equal, equal, other)] == ["same"] * 3


def outcome(codec: Codec, payload: bytes) -> Any:
    try:
        request = codec.parse(payload)
    except MeshError as error:
        return type(error), error.message
    return (
        request.id, request.rows, request.group, request.shapes, [bytes(b) for b in request.buffers],
        request.wanted, request.wishes,
    )  # fmt: skip


def test_large_tensors_are_not_copied_once_their_form_is_known() -> None:
    codec = codec_of(inputs=[("x", "UINT8", (-1, 10_000))])
    message = oip.ModelInferRequest(id="1")
    message.inputs.add(name="x", datatype="UINT8", shape=[1, 10_000])
    message.raw_input_contents.append(b"a" * 10_000)
    payload = message.SerializeToString()
    assert isinstance(codec.parse(payload).buffers[0], bytes)
    view = codec.parse(payload).buffers[0]
    assert isinstance(view, memoryview)
    assert view.obj is payload
    assert bytes(view) == b"a" * 10_000


def test_what_callers_make_it_remember_is_bounded() -> None:
    codec = codec_of(inputs=[("x", "INT8", (-1, -1))], max_batch_size=1)
    for tail in range(2000):
        message = oip.ModelInferRequest()
        message.inputs.add(name="x", datatype="INT8", shape=[1, tail])
        message.raw_input_contents.append(b"\0" * tail)
        request = codec.parse(message.SerializeToString())
        codec.respond(request, [("y", "INT8", (1, tail), np.zeros(tail, np.int8).tobytes())], False)
    assert len(codec._known) <= 64
    assert len(codec._headers) <= 512
    assert len(codec.inputs[0]._sizes) <= 512
