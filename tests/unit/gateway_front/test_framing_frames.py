"""Frames, compression and limits."""

import gzip
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infermesh.errors import MeshError, TooLarge, Unsupported
from infermesh.gateway.framing import frames
from infermesh.gateway.framing.frames import Limits
from infermesh.mesh.messages import BadFrame
from tests.unit.gateway_front.wire import Messages


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    chunks, at = [], 0
    for size in sizes:
        chunks.append(data[at : at + size])
        at += size
    return [*chunks, data[at:]]


@given(
    st.lists(st.binary(max_size=200)), st.lists(st.integers(0, 60)), st.sampled_from([b"identity", b"gzip", b"deflate"])
)
def test_what_was_framed_comes_out_whatever_the_chunks(messages, sizes, encoding):
    data = b"".join(frames.encode(message, encoding) for message in messages)
    decoder, found = Messages(encoding, 1000), []
    for chunk in cut(data, sizes):
        decoder.feed(chunk)
        while (message := decoder.next()) is not None:
            found.append(message)
    decoder.finish()
    assert found == messages


@given(st.binary(max_size=300))
def test_any_bytes_give_messages_or_an_error_of_the_tree(data):
    decoder = Messages(b"gzip", 100)
    decoder.feed(data)
    try:
        while decoder.next() is not None:
            pass
        decoder.finish()
    except MeshError:
        pass


def test_a_stream_that_ends_within_a_frame_is_broken():
    decoder = Messages(b"identity", 100)
    decoder.feed(frames.encode(b"abc")[:-1])
    assert decoder.next() is None
    with pytest.raises(BadFrame, match="within a message, 7 bytes"):
        decoder.finish()


@pytest.mark.parametrize("flag", [2, 7, 128, 255])
def test_an_unknown_flag_is_broken(flag):
    decoder = Messages(b"identity", 100)
    decoder.feed(bytes([flag]) + bytes(4))
    with pytest.raises(BadFrame, match=f"got {flag}"):
        decoder.next()


def test_a_message_above_the_limit_is_refused_by_its_header_alone():
    decoder = Messages(b"identity", 100)
    decoder.feed(b"\x00" + (101).to_bytes(4, "big"))
    with pytest.raises(TooLarge, match="at most 100 bytes, got 101") as caught:
        decoder.next()
    assert caught.value.metadata == {"limit": "100", "size": "101"}


def test_a_message_at_the_limit_is_taken():
    decoder = Messages(b"identity", 100)
    decoder.feed(frames.encode(bytes(100)))
    assert decoder.next() == bytes(100)


def test_a_compressed_frame_without_an_encoding_is_broken():
    decoder = Messages(b"identity", 100)
    decoder.feed(frames.encode(b"abc", b"gzip"))
    with pytest.raises(BadFrame, match="no grpc-encoding"):
        decoder.next()


@pytest.mark.parametrize("encoding", [b"gzip", b"deflate"])
def test_the_limit_holds_after_inflating(encoding):
    data = frames.encode(bytes(101), encoding)
    assert len(data) < 100
    decoder = Messages(encoding, 100)
    decoder.feed(data)
    with pytest.raises(TooLarge, match="at most 100"):
        decoder.next()


def test_a_bomb_is_stopped_before_it_is_inflated():
    bomb = zlib.compress(bytes(32 << 20), 9)
    with pytest.raises(TooLarge, match=str(4 << 20)):
        frames.inflate(bomb, b"deflate", Limits(1 << 30))


def test_a_bomb_takes_no_memory():
    bomb = zlib.compress(bytes(64 << 20), 9)
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge):
            frames.inflate(bomb, b"deflate", Limits(1 << 20))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20


def test_what_grows_more_than_the_ratio_allows_is_a_bomb():
    packed = zlib.compress(bytes(range(256)) * (20 << 12), 9)  # 20 MiB
    ratio = (20 << 20) // len(packed)
    assert len(frames.inflate(packed, b"deflate", Limits(ratio=ratio + 1))) == 20 << 20
    with pytest.raises(TooLarge):
        frames.inflate(packed, b"deflate", Limits(ratio=ratio - 1))


@pytest.mark.parametrize(
    "data",
    [b"", b"not compressed", gzip.compress(b"abc")[:-3], gzip.compress(b"abc") + b"more", zlib.compress(b"abc")],
    ids=["empty", "plain", "cut", "trailing", "deflate"],
)
def test_bytes_that_are_not_gzip_are_broken(data):
    with pytest.raises(BadFrame):
        frames.inflate(data, b"gzip", Limits(1000))


@pytest.mark.parametrize("encoding", [b"identity", b"gzip", b"deflate"])
def test_known_encodings(encoding):
    assert frames.check_encoding(encoding) == encoding


def test_an_unknown_encoding_names_the_known_ones():
    with pytest.raises(Unsupported, match="identity, deflate, gzip, got 'br'"):
        frames.check_encoding(b"br")
