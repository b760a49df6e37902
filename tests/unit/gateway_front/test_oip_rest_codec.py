"""JSON and binary tensors, to messages and back."""

import contextlib
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from infermesh import tensors
from infermesh.datatypes import encode_bytes
from infermesh.errors import InvalidInput
from infermesh.gateway.frontends.oip import json_tensors, rest_codec
from infermesh.oip.v2 import grpc_service_pb2 as oip
from infermesh.v1.model_pb2 import Signature
from infermesh.v1.tensor_pb2 import TensorSpec

NUMBERS = {"BOOL": "?", "UINT8": "u1", "INT16": "i2", "UINT64": "u8", "INT64": "i8", "FP32": "f4", "FP64": "f8"}


def read(content, binary=b""):
    return rest_codec.read("m", "1", content, binary)


def one(**more):
    return {"inputs": [{"name": "x", "shape": [2], "datatype": "INT32", "data": [1, 2]} | more]}


@st.composite
def arrays(draw):
    datatype = draw(st.sampled_from(sorted(NUMBERS)))
    shape = npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)
    elements = {"allow_nan": False} if datatype.startswith("FP") else None
    return datatype, draw(npst.arrays(np.dtype(NUMBERS[datatype]), shape, elements=elements))


@given(arrays(), st.booleans())
def test_numbers_survive_nested_or_flat(pair, nested):
    datatype, array = pair
    flat = array.reshape(-1).tolist()
    data = array.tolist() if nested and array.ndim else flat
    data = json.loads(json.dumps(data))
    raw = json_tensors.to_raw("x", datatype, list(array.shape), data)
    assert raw == tensors.encode(array)
    assert json_tensors.to_json("x", datatype, list(array.shape), raw) == flat


@given(st.lists(st.text(max_size=10)))
def test_strings_survive(texts):
    texts = [text.encode("utf-8", "ignore").decode() for text in texts]
    raw = json_tensors.to_raw("x", "BYTES", [len(texts)], texts)
    assert raw == encode_bytes(text.encode() for text in texts)
    assert json_tensors.to_json("x", "BYTES", [len(texts)], raw) == texts


@pytest.mark.parametrize(
    ("datatype", "data", "text"),
    [
        ("INT32", [1, 2.5], "INT32 elements, got JSON of type float"),
        ("INT32", [1, True], "got JSON of type bool"),
        ("INT32", [1, "2"], "got JSON of type str"),
        ("INT32", [1, None], "got JSON of type NoneType"),
        ("INT32", [1], "2 elements for shape [2], got 1"),
        ("INT32", [1, 2, 3], "got 3"),
        ("INT32", [[1], 2], "nested alike"),
        ("INT32", 7, "a list as data, got int"),
        ("INT32", None, "a list as data, got NoneType"),
        ("INT32", [2**31, 0], "within -2147483648 to 2147483647"),
        ("UINT8", [-1, 0], "within 0 to 255"),
        ("UINT64", [2**64, 0], "within 0 to 18446744073709551615"),
        ("BOOL", [2, 0], "true, false, 0 or 1"),
        ("FP64", [10**400, 0], "within a float64"),
        ("BYTES", ["a", 1], "strings for BYTES, got int"),
        ("FP16", [1, 2], "FP16 as binary data"),
        ("BF16", [1, 2], "BF16 as binary data"),
    ],
)
def test_bad_data_names_tensor_expectation_and_what_came(datatype, data, text):
    with pytest.raises(InvalidInput) as caught:
        read(one(datatype=datatype, data=data))
    assert caught.value.message.startswith("tensor 'x': expected ")
    assert text in caught.value.message


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({}, "inputs: expected a list, got nothing"),
        ({"inputs": {}}, "inputs: expected a list, got dict"),
        ({"inputs": [1]}, "inputs: expected objects, got int"),
        ({"inputs": [{}]}, "expected a name for every tensor"),
        (one(name=3), "name: expected text, got int"),
        (one(shape=None), "a list of whole numbers"),
        (one(shape=[-1]), "a list of whole numbers"),
        (one(shape=[1.5]), "a list of whole numbers"),
        (one(shape=[True, 2]), "a list of whole numbers"),
        (one(datatype="INT31"), "datatype: expected one of"),
        (one(datatype=None), "datatype: expected text"),
        (one(parameters=3), "parameters: expected an object"),
        (one(parameters={"a": {}}), "'a': expected a number, text or boolean, got dict"),
        (one(parameters={"binary_data_size": 8}), "either data or binary_data_size"),
        ({"id": 3, "inputs": []}, "id: expected text"),
        ({"parameters": [1], "inputs": []}, "parameters: expected an object, got list"),
        ({"inputs": [], "outputs": {}}, "outputs: expected a list"),
        ({"inputs": [], "outputs": [{}]}, "outputs: expected a name"),
        ({"inputs": [], "parameters": {"a": 2**64}}, "'a': expected a number"),
    ],
)
def test_bad_requests_say_why(content, text):
    with pytest.raises(InvalidInput) as caught:
        read(content)
    assert text in caught.value.message


@pytest.mark.parametrize("size", [-1, 9, "8", 8.0, True, None])
def test_bad_binary_sizes(size):
    content = {"inputs": [{"name": "x", "shape": [2], "datatype": "INT32", "parameters": {"binary_data_size": size}}]}
    with pytest.raises(InvalidInput):
        read(content, bytes(8))


def test_binary_and_json_inputs_mix_in_order():
    content = {
        "id": "7",
        "inputs": [
            {"name": "a", "shape": [2], "datatype": "UINT8", "parameters": {"binary_data_size": 2}},
            {"name": "b", "shape": [1], "datatype": "UINT8", "data": [9]},
            {"name": "c", "shape": [0], "datatype": "UINT8", "parameters": {"binary_data_size": 0}},
            {"name": "d", "shape": [1], "datatype": "UINT8", "parameters": {"binary_data_size": 1, "own": "x"}},
        ],
    }
    message, _ = read(content, b"\x01\x02\x03")
    assert (message.model_name, message.model_version, message.id) == ("m", "1", "7")
    assert list(message.raw_input_contents) == [b"\x01\x02", b"\x09", b"", b"\x03"]
    assert message.inputs[3].parameters["own"].string_param == "x"
    assert "binary_data_size" not in message.inputs[0].parameters


def test_binary_data_that_no_input_claims():
    with pytest.raises(InvalidInput, match="expected 0 bytes of binary data by the inputs' sizes, got 3"):
        read(one(), b"abc")


@pytest.mark.parametrize("header", ["-1", "x", "6", "1.0", ""])
def test_a_bad_length_header(header):
    with pytest.raises(InvalidInput, match="inference-header-content-length: expected a number from 0"):
        rest_codec.split(b"{}abc", header)


def test_the_header_parts_json_from_data():
    assert rest_codec.split(b'{"a":1}xyz', "7") == ({"a": 1}, b"xyz")
    assert rest_codec.split(b'{"a":1}', None) == ({"a": 1}, b"")


@pytest.mark.parametrize("body", [b"{", b"[]", b"3", b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_object(body):
    with pytest.raises(InvalidInput, match="body: "):
        rest_codec.split(body, None)


def test_parameters_keep_their_kinds():
    parameters = {"a": 1, "b": 1.5, "c": "x", "d": True, "binary_data_output": True}
    message, wish = read({"inputs": [], "parameters": parameters})
    kinds = {key: message.parameters[key].WhichOneof("parameter_choice") for key in message.parameters}
    assert kinds == {"a": "int64_param", "b": "double_param", "c": "string_param", "d": "bool_param"}
    assert wish.rest


def response(**more):
    message = oip.ModelInferResponse(model_name="m", model_version="1", **more)
    message.outputs.add(name="y", datatype="FP32", shape=[2])
    message.outputs.add(name="z", datatype="BYTES", shape=[1])
    message.raw_output_contents.extend([np.array([1.5, math.nan], "<f4").tobytes(), encode_bytes([b"abc"])])
    return message


def test_a_json_response():
    body, length = rest_codec.write(response(), rest_codec.Wish(False, {}))
    assert length is None
    content = json.loads(body)
    assert content["outputs"][0]["data"][0] == 1.5
    assert math.isnan(content["outputs"][0]["data"][1])
    assert content["outputs"][1] == {"name": "z", "datatype": "BYTES", "shape": [1], "data": ["abc"]}
    assert "id" not in content
    assert "parameters" not in content


def test_a_binary_response():
    body, length = rest_codec.write(response(id="7"), rest_codec.Wish(True, {"z": False}))
    content = json.loads(body[:length])
    assert content["id"] == "7"
    assert content["outputs"][0]["parameters"] == {"binary_data_size": 8}
    assert "data" not in content["outputs"][0]
    assert content["outputs"][1]["data"] == ["abc"]
    assert np.frombuffer(body[length:], "<f4")[0] == 1.5


@pytest.mark.parametrize(("datatype", "raw"), [("FP16", bytes(2)), ("BYTES", encode_bytes([b"\xff"]))])
def test_what_json_cannot_hold_is_refused_with_advice(datatype, raw):
    with pytest.raises(InvalidInput, match="ask for binary_data"):
        json_tensors.to_json("y", datatype, [1], raw)


@pytest.mark.parametrize(
    ("datatype", "shape", "data", "expected"),
    [
        ("FP32", [-1, 4], bytes(16), [1, 4]),
        ("FP32", [-1, -1], bytes(12), [1, 3]),
        ("UINT8", [4, -1], bytes(8), [4, 2]),
        ("BYTES", [-1, 1], b"any", [1, 1]),
    ],
)
def test_a_raw_request_gets_its_shape_from_the_signature(datatype, shape, data, expected):
    signature = Signature(inputs=[TensorSpec(name="x", datatype=datatype, shape=shape)])
    message, wish = rest_codec.read_raw("m", "", signature, data)
    assert list(message.inputs[0].shape) == expected
    assert message.raw_input_contents[0].endswith(data)
    assert wish.rest


@pytest.mark.parametrize("shapes", [[[-1], [-1]], [[-1, -1, -1]], []])
def test_a_raw_request_that_is_ambiguous(shapes):
    signature = Signature(inputs=[TensorSpec(name="x", datatype="FP32", shape=shape) for shape in shapes])
    with pytest.raises(InvalidInput):
        rest_codec.read_raw("m", "", signature, bytes(4))


KEYS = ["inputs", "name", "shape", "datatype", "data", "parameters", "outputs"]
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(KEYS), JSON))
def test_any_json_is_read_or_refused(content):
    with contextlib.suppress(InvalidInput):
        read(content)


def test_a_number_beyond_the_datatype_is_not_made_infinite():
    with pytest.raises(InvalidInput, match="FP32 elements within a float32"):
        json_tensors.to_raw("x", "FP32", [1], [1e300])
    assert np.isinf(np.frombuffer(json_tensors.to_raw("x", "FP32", [1], [math.inf]), "<f4"))
