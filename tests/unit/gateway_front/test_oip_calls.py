"""From a request to a call, and from a response to a stream's response."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infermesh.errors import InvalidInput
from infermesh.gateway.frontends.oip import calls
from infermesh.gateway.frontends.oip.wire import scan
from infermesh.oip.v2 import grpc_service_pb2 as oip


def make(deadline=None, now=100.0, trace=("", ""), **parameters):
    message = oip.ModelInferRequest(model_name="digits", model_version="2", id="a")
    for key, value in parameters.items():
        kind = {bool: "bool_param", str: "string_param", float: "double_param"}.get(type(value), "int64_param")
        setattr(message.parameters[key], kind, value)
    data = message.SerializeToString()
    return calls.make_call(scan(data), data, now, deadline, trace), data


def test_a_call_carries_the_bytes_as_they_came():
    call, data = make(deadline=105.0, trace=("00-a-b-01", "s=1"))
    assert (call.deployment, call.version, call.deadline, call.priority) == ("digits", "2", 105.0, 0)
    assert call.payload is data
    assert (call.traceparent, call.tracestate) == ("00-a-b-01", "s=1")


@pytest.mark.parametrize(
    ("deadline", "timeout", "expected"),
    [
        (None, 2_000_000, 102.0),
        (101.0, 2_000_000, 101.0),
        (105.0, 2_000_000, 102.0),
        (105.0, 0, 105.0),
        (None, 0, None),
    ],
)
def test_the_earlier_of_deadline_and_timeout_counts(deadline, timeout, expected):
    assert make(deadline, timeout=timeout)[0].deadline == expected


@pytest.mark.parametrize(("level", "priority"), [(0, 0), (1, 0), (2, -1), (10, -9)])
def test_level_1_goes_first(level, priority):
    assert make(priority=level)[0].priority == priority


def test_priority_as_unsigned_number_as_clients_send_it():
    message = oip.ModelInferRequest(model_name="m")
    message.parameters["priority"].uint64_param = 2**63 + 5
    data = message.SerializeToString()
    assert calls.make_call(scan(data), data, 0, None, ("", "")).priority == -(2**31)


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"timeout": -1}, "'timeout': expected 0 or above, got -1"),
        ({"timeout": "1"}, "'timeout': expected an integer, got string_param"),
        ({"priority": -1}, "'priority': expected 0 or above"),
        ({"priority": True}, "'priority': expected an integer, got bool_param"),
        ({"timeout": 1.5}, "'timeout': expected an integer, got double_param"),
    ],
)
def test_bad_parameters(parameters, text):
    with pytest.raises(InvalidInput, match=text):
        make(**parameters)


def test_a_request_without_a_model():
    with pytest.raises(InvalidInput, match="model_name"):
        calls.make_call(scan(b""), b"", 0, None, ("", ""))


@given(st.text(max_size=20), st.binary(max_size=100), st.booleans())
def test_a_stream_response_is_the_response_and_one_parameter_more(request_id, raw, final):
    response = oip.ModelInferResponse(model_name="m", id=request_id, raw_output_contents=[raw])
    response.parameters["other"].bool_param = True
    whole = oip.ModelStreamInferResponse.FromString(calls.stream_response(response.SerializeToString(), final))
    response.parameters[calls.FINAL].bool_param = final
    assert whole.infer_response == response
    assert whole.error_message == ""
    assert whole.infer_response.parameters[calls.FINAL].WhichOneof("parameter_choice") == "bool_param"


def test_a_stream_error_names_the_request():
    head = scan(oip.ModelInferRequest(model_name="m", model_version="1", id="7").SerializeToString())
    whole = oip.ModelStreamInferResponse.FromString(calls.stream_error(head, "why"))
    assert (whole.error_message, whole.infer_response.id, whole.infer_response.model_name) == ("why", "7", "m")


def test_an_empty_last_response_is_wanted_or_not():
    message = oip.ModelInferRequest(model_name="m", id="7")
    assert not calls.wants_empty_final(scan(message.SerializeToString()))
    message.parameters[calls.EMPTY_FINAL].bool_param = False
    assert not calls.wants_empty_final(scan(message.SerializeToString()))
    message.parameters[calls.EMPTY_FINAL].bool_param = True
    head = scan(message.SerializeToString())
    assert calls.wants_empty_final(head)
    whole = oip.ModelStreamInferResponse.FromString(calls.empty_final(head, "3"))
    assert (whole.infer_response.id, whole.infer_response.model_version) == ("7", "3")
    assert whole.infer_response.parameters[calls.FINAL].bool_param
    assert not whole.infer_response.outputs
