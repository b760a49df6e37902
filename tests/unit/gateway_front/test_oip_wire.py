"""The wire scanner against protobuf itself."""

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from infermesh.errors import InvalidInput
from infermesh.gateway.frontends.oip import wire
from infermesh.mesh.wire import varint
from infermesh.oip.v2 import grpc_service_pb2 as oip


@st.composite
def requests(draw):
    message = oip.ModelInferRequest(
        model_name=draw(st.text(max_size=200)), model_version=draw(st.text(max_size=5)), id=draw(st.text(max_size=10))
    )
    for key in draw(st.lists(st.text(max_size=10), max_size=4)):
        message.parameters[key].int64_param = draw(st.integers(-(2**63), 2**63 - 1))
    for data in draw(st.lists(st.binary(max_size=400), max_size=3)):
        message.inputs.add(name="x", datatype="UINT8", shape=[len(data)])
        message.raw_input_contents.append(data)
    return message


@st.composite
def unknown_fields(draw):
    number = draw(st.integers(8, 2**29 - 1))
    kind = draw(st.sampled_from([0, 1, 2, 5]))
    tag = varint(number << 3 | kind)
    if kind == 0:
        return tag + varint(draw(st.integers(0, 2**64 - 1)))
    if kind == 2:
        value = draw(st.binary(max_size=300))
        return tag + varint(len(value)) + value
    size = {1: 8, 5: 4}[kind]
    return tag + draw(st.binary(min_size=size, max_size=size))


def check(data: bytes, message: oip.ModelInferRequest) -> None:
    head = wire.scan(data)
    assert (head.model, head.version, head.id) == (message.model_name, message.model_version, message.id)
    found = wire.parameters_of(head)
    assert {key: found[key] for key in found} == {key: message.parameters[key] for key in message.parameters}


@given(requests())
def test_finds_what_protobuf_wrote(message):
    check(message.SerializeToString(), message)


@given(st.lists(requests(), max_size=3), st.lists(unknown_fields(), max_size=3))
def test_merges_and_steps_over_unknown_fields_as_protobuf_does(messages, unknown):
    parts = [message.SerializeToString() for message in messages]
    data = b"".join(part for pair in zip(parts, [*unknown, b"", b"", b""], strict=False) for part in pair)
    check(data, oip.ModelInferRequest.FromString(data))


@given(st.binary(max_size=60))
def test_takes_whatever_protobuf_takes(data):
    try:
        message = oip.ModelInferRequest.FromString(data)
    except DecodeError:
        try:
            wire.scan(data)  # may be taken: what lies within tensors is for the worker to refuse
        except InvalidInput:
            return
    else:
        check(data, message)


@given(requests(), st.data())
def test_a_request_that_is_cut_is_refused_or_a_shorter_one(message, data):
    whole = message.SerializeToString()
    cut = whole[: data.draw(st.integers(0, len(whole)))]
    try:
        expected = oip.ModelInferRequest.FromString(cut)
    except DecodeError:
        return
    check(cut, expected)


def test_groups_are_stepped_over():
    field = wire.field(1, b"m")
    group = varint(9 << 3 | 3) + varint(1 << 3) + b"\x05" + varint(9 << 3 | 4)
    assert wire.scan(group + field).model == "m"


@pytest.mark.parametrize(
    "data",
    [
        b"\x0a",  # no length
        b"\x0a\x05ab",  # runs past the end
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",  # length of 11 bytes
        b"\x02\x00",  # field number 0
        b"\x4c",  # the end of a group that did not begin
        b"\x4b" * 200,  # groups without end
        b"\x09\x01",  # half of a fixed64
        b"\x0e\x00",  # kind 6
    ],
)
def test_malformed(data):
    with pytest.raises(InvalidInput, match="not a ModelInferRequest"):
        wire.scan(data)


@pytest.mark.parametrize(("number", "name"), [(1, "model_name"), (2, "model_version"), (3, "id")])
def test_text_that_is_not_utf8_names_its_field(number, name):
    with pytest.raises(InvalidInput, match=f"{name}: expected UTF-8"):
        wire.scan(wire.field(number, b"\xff"))


def test_parameters_that_are_none():
    head = wire.scan(wire.field(4, b"\xff"))
    with pytest.raises(InvalidInput, match="parameters"):
        wire.parameters_of(head)


@given(st.integers(0, 2**64 - 1))
def test_varints(value):
    data = varint(value)
    assert data == oip.StatisticDuration(count=value).SerializeToString()[1:] or value == 0
