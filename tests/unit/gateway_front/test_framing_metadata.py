"""Timeouts, percent-encoding and binary metadata."""

from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infermesh.errors import InvalidInput
from infermesh.gateway.framing import metadata


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (b"1H", 3600),
        (b"2M", 120),
        (b"3S", 3),
        (b"4m", 0.004),
        (b"5u", 5e-6),
        (b"6n", 6e-9),
        (b"0S", 0),
    ],
)
def test_timeouts(text, seconds):
    assert metadata.parse_timeout(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", [b"", b"S", b"1", b"-1S", b"1.5S", b"123456789S", b"1s", b" 1S", b"1S ", b"\xff1S"])
def test_malformed_timeouts(text):
    with pytest.raises(InvalidInput, match="grpc-timeout"):
        metadata.parse_timeout(text)


@given(st.text())
def test_messages_survive_percent_encoding(text):
    encoded = metadata.percent_encode(text)
    assert all(0x20 <= byte < 0x7F for byte in encoded)
    assert unquote_to_bytes(encoded) == text.encode("utf-8", "replace")


def test_percent_signs_are_encoded():
    assert metadata.percent_encode("100 % \n é") == b"100 %25 %0A %C3%A9"


@given(st.binary())
def test_binary_values_survive(value):
    ((key, encoded),) = metadata.encode([("x-bin", value)])
    assert key == b"x-bin"
    assert b"=" not in encoded
    assert metadata.decode([(key, encoded)]) == [("x-bin", value)]


def test_padded_and_joined_binary_values():
    assert metadata.decode([(b"x-bin", b"AAE=,AAI")]) == [("x-bin", b"\0\1"), ("x-bin", b"\0\2")]


def test_what_the_protocol_itself_uses_is_not_metadata():
    headers = [(b"te", b"trailers"), (b"grpc-timeout", b"1S"), (b"content-type", b"application/grpc"), (b"x-a", b"b")]
    assert metadata.decode(headers) == [("x-a", "b")]


def test_a_binary_value_that_is_not_base64():
    with pytest.raises(InvalidInput, match="'x-bin': expected base64"):
        metadata.decode([(b"x-bin", b"!!")])
