"""HTTP/2's frames: what goes in comes out however it is cut, and nonsense is refused without harm."""

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infermesh.mesh.http2 import frames
from infermesh.mesh.http2.frames import Code, ConnectionFault, Frame, Kind, Setting, Splitter

FRAMES = st.tuples(st.sampled_from(Kind), st.integers(0, 255), st.integers(0, 2**31 - 1), st.binary(max_size=300))


@given(st.lists(FRAMES), st.integers(1, 50))
def test_frames_come_out_as_they_went_in_however_they_are_cut(
    sent: list[tuple[Kind, int, int, bytes]], cut: int
) -> None:
    octets = b"".join(frames.frame(*fields) for fields in sent)
    splitter, found = Splitter(), list[Frame]()
    for start in range(0, len(octets), cut):
        found += splitter.feed(octets[start : start + cut])
    whole, left = [], b""
    wanted = iter(sent)
    for each in found:
        left += each.payload
        kind, flags, stream, payload = sent[len(whole)]
        assert (each.kind, each.stream) == (kind, stream)
        assert payload.startswith(left)
        if len(left) < len(payload):
            assert (each.kind, flags & frames.PADDED) == (Kind.DATA, 0), "only DATA comes in pieces"
            assert each.flags == flags & ~frames.END_STREAM, "the end comes with the last piece"
            continue
        assert each.flags == flags
        whole.append(next(wanted))
        left = b""
    assert whole == sent


@given(st.binary(max_size=400), st.integers(1, 50))
def test_no_bytes_do_harm(octets: bytes, cut: int) -> None:
    splitter = Splitter()
    try:
        for start in range(0, len(octets), cut):
            for found in splitter.feed(octets[start : start + cut]):
                if found.kind in (Kind.DATA, Kind.HEADERS):
                    frames.content(found)
    except ConnectionFault:
        pass


def test_a_large_piece_is_not_copied() -> None:
    chunk = frames.head(Kind.DATA, 0, 1, 1 << 20) + bytes(100_000)
    (found,) = Splitter().feed(chunk)
    assert isinstance(found.payload, memoryview)
    assert found.payload.obj is chunk


def test_padding_and_priority_are_no_content() -> None:
    assert frames.content(Frame(Kind.HEADERS, 0x28, 1, b"\x02\0\0\0\0\x10block\0\0")) == b"block"
    assert frames.content(Frame(Kind.DATA, 0, 1, b"data")) == b"data"


@pytest.mark.parametrize("payload", [b"", b"\x05", b"\x05data"])
def test_padding_beyond_the_frame_is_refused(payload: bytes) -> None:
    with pytest.raises(ConnectionFault, match="padding"):
        frames.content(Frame(Kind.DATA, frames.PADDED, 1, payload))


def test_only_data_may_be_large() -> None:
    with pytest.raises(ConnectionFault, match="at most") as caught:
        Splitter().feed(frames.head(Kind.HEADERS, 0, 1, 1 << 20))
    assert caught.value.code is Code.FRAME_SIZE_ERROR


def test_settings_that_make_no_sense_are_refused() -> None:
    def sent(*values: tuple[Setting, int]) -> bytes:
        return frames.settings(values)[9:]

    assert frames.read_settings(sent((Setting.MAX_FRAME_SIZE, 20_000))) == {Setting.MAX_FRAME_SIZE: 20_000}
    for bad in (sent((Setting.MAX_FRAME_SIZE, 100)), sent((Setting.INITIAL_WINDOW_SIZE, 2**31)), b"12345"):
        with pytest.raises(ConnectionFault):
            frames.read_settings(bad)


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=200), st.binary(max_size=400))))
def test_literals_are_read_by_others(fields: list[tuple[bytes, bytes]]) -> None:
    block = b"".join(frames.literal(*each) for each in fields)
    assert [tuple(each) for each in hpack.Decoder(1 << 20).decode(block, raw=True)] == fields
