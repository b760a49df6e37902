"""Which requests count as the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infermesh.mesh.fingerprint import Fingerprints, fingerprint
from infermesh.oip.v2 import grpc_service_pb2 as oip


def request(value: bytes = b"1234", **fields: str) -> bytes:
    message = oip.ModelInferRequest(**fields)
    message.inputs.add(name="x", datatype="FP32", shape=[1, 1])
    message.raw_input_contents.append(value)
    return message.SerializeToString()


@pytest.mark.parametrize(
    "fields",
    [{"id": "a"}, {"id": "b" * 1000}, {"model_name": "m"}, {"model_name": "m", "model_version": "prod", "id": "é"}],
)
def test_name_version_and_id_do_not_matter(fields: dict[str, str]) -> None:
    assert fingerprint(request(**fields)) == fingerprint(request())


def test_they_do_not_matter_wherever_they_stand() -> None:
    behind = request() + oip.ModelInferRequest(id="late").SerializeToString()
    assert fingerprint(behind) == fingerprint(request(id="early"))


def test_everything_else_matters() -> None:
    other_parameter = oip.ModelInferRequest.FromString(request())
    other_parameter.parameters["top"].int64_param = 3
    payloads = [request(), request(b"1235"), request(b"12345"), other_parameter.SerializeToString(), b""]
    assert len({fingerprint(payload) for payload in payloads}) == len(payloads)


def test_a_set_finds_what_it_has() -> None:
    known = Fingerprints([fingerprint(request(id="1"))])
    assert known.match(request(id="2")) == fingerprint(request())
    assert known.match(request(b"1235")) is None
    assert known.match(request(b"12345")) is None
    assert known
    assert not Fingerprints()


@given(st.binary(max_size=200))
def test_bytes_that_are_no_message_have_one_too(payload: bytes) -> None:
    assert fingerprint(payload) == fingerprint(payload)
    assert Fingerprints([fingerprint(payload)]).match(payload)
