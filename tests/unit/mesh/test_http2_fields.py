"""Header blocks: what is read once and remembered is what would be read again."""

import contextlib

import hpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infermesh.mesh.http2 import fields, frames
from infermesh.mesh.http2.fields import Field, FieldReader, Headers
from infermesh.mesh.http2.frames import Code, ConnectionFault

NAMES = st.sampled_from([b":path", b":method", b"te", b"grpc-timeout", b"x-one", b"x-two"])
VALUES = st.sampled_from([b"", b"POST", b"trailers", b"/a.B/C", b"1S", b"v" * 30, b"w" * 300])
LISTS = st.lists(st.tuples(NAMES, VALUES, st.booleans()), max_size=5)
# what a client may do: say something (again), or change the size of its table
SAID = st.one_of(
    st.tuples(st.just("new"), LISTS, st.booleans()),
    st.tuples(st.just("again"), st.integers(0, 5), st.just(True)),
    st.tuples(st.just("size"), st.sampled_from([0, 64, 100, 500, 4096]), st.just(True)),
)


def plain(*pairs: Field) -> bytes:
    """Returns a block that no table remembers."""
    return b"".join(frames.literal(*pair) for pair in pairs)


@settings(max_examples=150)
@given(st.lists(SAID, max_size=25))
def test_what_is_remembered_is_what_would_be_read(said: list[tuple[str, object, bool]]) -> None:
    reader, fresh, encoder = FieldReader(), hpack.Decoder(), hpack.Encoder()
    lists: list[list[tuple[bytes, bytes, bool]]] = []
    for what, value, huffman in said:
        if what == "size":
            encoder.header_table_size = value
            continue
        if what == "again":
            assert isinstance(value, int)
            pairs = lists[-1 - value] if value < len(lists) else []
        else:
            assert isinstance(value, list)
            lists.append(pairs := value)
        # a sensitive field is sent as one that is never to be remembered
        block = encoder.encode(
            [hpack.HeaderTuple(*pair[:2]) if not pair[2] else secret(pair) for pair in pairs], huffman
        )
        wanted = [(bytes(name), bytes(value)) for name, value in fresh.decode(block, raw=True)]
        got = reader.read(block)
        assert list(got.pairs) == wanted == [pair[:2] for pair in pairs]
        assert got == dict(wanted)


def secret(pair: tuple[bytes, bytes, bool]) -> hpack.NeverIndexedHeaderTuple:
    """Returns a field that no table takes."""
    return hpack.NeverIndexedHeaderTuple(*pair[:2])


# pieces of blocks, by hand: they point anywhere, insert, evict, and change the table's size
PIECES = st.sampled_from(
    [
        b"\x82",  # :method GET
        b"\xbe",  # the youngest entry
        b"\xbf",  # the one before
        b"\x40\x01a\x01b",  # a: b, inserted
        b"\x40\x01a\x01c",
        b"\x7e\x01d",  # the youngest entry's name, inserted
        b"\x00\x01a\x01b",  # not inserted
        b"\x10\x01a\x01b",  # never inserted
        b"\x0f\x2f\x01e",  # the youngest entry's name, not inserted
    ]
)
SIZES = st.sampled_from([b"", b"\x20", b"\x3f\x02", b"\x3f\x23", b"\x3f\xe1\x1f"])  # 0, 33, 66, 4096
BLOCKS = st.tuples(SIZES, st.lists(PIECES, max_size=4)).map(lambda parts: b"".join((parts[0], *parts[1])))


@settings(max_examples=200)
@given(st.lists(BLOCKS, min_size=1, max_size=4), st.lists(st.integers(0, 3), max_size=20))
def test_a_table_that_changes_is_followed(blocks: list[bytes], order: list[int]) -> None:
    reader, fresh = FieldReader(), hpack.Decoder()
    first = b"\x40\x01a\x01b\x40\x01a\x01c"
    for block in [first, *(blocks[place % len(blocks)] for place in order)]:
        try:
            wanted = fresh.decode(block, raw=True)
        except hpack.HPACKError:
            with pytest.raises(ConnectionFault):
                reader.read(block)
            return  # the connection ends
        assert list(reader.read(block).pairs) == [tuple(pair) for pair in wanted]


@settings(max_examples=150)
@given(st.lists(st.binary(max_size=60), max_size=3))
def test_no_bytes_do_harm(blocks: list[bytes]) -> None:
    reader = FieldReader()
    with contextlib.suppress(ConnectionFault):
        for block in blocks:
            reader.read(block)


def test_a_block_that_comes_again_is_not_read_again() -> None:
    reader, encoder = FieldReader(), hpack.Encoder()
    pairs = [(b":path", b"/a.B/C"), (b"te", b"trailers")]
    first, block = encoder.encode(pairs), encoder.encode(pairs)
    assert first != block
    assert reader.read(first) == (known := reader.read(block))
    assert reader.read(block) is known


def test_what_was_read_before_the_table_changed_is_read_again() -> None:
    reader, encoder = FieldReader(), hpack.Encoder()
    reader.read(encoder.encode([(b"a", b"1")]))
    youngest = b"\xbe"
    assert reader.read(youngest) == {b"a": b"1"}
    reader.read(encoder.encode([(b"a", b"2")]))
    assert reader.read(youngest) == {b"a": b"2"}


def test_a_block_that_changes_the_table_changes_it_each_time() -> None:
    reader, insert, older = FieldReader(), b"\x40\x01a\x01b", b"\xbf"
    reader.read(insert)
    reader.read(insert)
    assert reader.read(older) == {b"a": b"b"}


def test_a_change_of_the_tables_size_alone_is_a_change() -> None:
    reader, small, large = FieldReader(), b"\x3f\x23\x82", b"\x3f\xe1\x1f\x82"  # 66 bytes: one entry
    for size in (small, large, small):
        reader.read(size)
    reader.read(b"\x40\x01a\x01b")
    reader.read(b"\x40\x01a\x01c")
    with pytest.raises(ConnectionFault):
        reader.read(b"\xbf")


def test_no_more_is_remembered_than_there_is_room_for() -> None:
    reader = FieldReader()
    for number in range(10 * fields._KEPT):
        reader.read(plain((b"x", b"%d" % number)))
        reader.read(plain((b"y", b"%d" % number + bytes(fields._SHORT))))
        assert len(reader._known) <= fields._KEPT
        assert all(len(block) <= fields._SHORT for block in reader._known)


def test_fields_that_come_twice_are_kept_in_their_order() -> None:
    headers = Headers([(b"tag", b"b"), (b"other", b"x"), (b"tag", b"a")])
    assert headers.pairs == ((b"tag", b"b"), (b"other", b"x"), (b"tag", b"a"))
    assert headers == {b"tag": b"a", b"other": b"x"}
    assert FieldReader().read(plain(*headers.pairs)).pairs == headers.pairs


def test_views_become_bytes() -> None:
    headers = Headers([(memoryview(b"a"), memoryview(b"b"))])  # type: ignore[list-item]
    assert [type(part) for part in headers.pairs[0]] == [bytes, bytes]
    assert headers[b"a"] == b"b"


@pytest.mark.parametrize(
    ("block", "code"),
    [
        (plain((b"x", bytes(65_000))), None),
        (plain((b"x", bytes(65_510))), Code.COMPRESSION_ERROR),
        (plain((b"x", bytes(70_000))), Code.ENHANCE_YOUR_CALM),
        (b"\x40\x01x\x7f\x81\x1e" + bytes(4_000) + b"\xbe" * 20, Code.COMPRESSION_ERROR),
        (b"\x82" * 2_000, Code.COMPRESSION_ERROR),
    ],
    ids=["just fits", "too large with its name", "too large", "one said again and again", "many small ones"],
)
def test_lists_that_are_too_large_are_refused(block: bytes, code: Code | None) -> None:
    if code is None:
        assert len(FieldReader().read(block)[b"x"]) == 65_000
        return
    with pytest.raises(ConnectionFault) as caught:
        FieldReader().read(block)
    assert caught.value.code == code


def test_a_table_larger_than_was_offered_is_refused() -> None:
    encoder = hpack.Encoder()
    encoder.header_table_size = 8192
    with pytest.raises(ConnectionFault) as caught:
        FieldReader().read(encoder.encode([(b"a", b"b")]))
    assert caught.value.code == Code.COMPRESSION_ERROR


@given(st.lists(st.one_of(st.binary(max_size=40), BLOCKS), max_size=4))
def test_what_is_read_here_is_what_the_package_reads(blocks: list[bytes]) -> None:
    reader, decoder = FieldReader(), hpack.Decoder(max_header_list_size=64 << 10)
    for block in blocks:
        try:
            wanted = [(bytes(name), bytes(value)) for name, value in decoder.decode(block, raw=True)]
        except hpack.HPACKError:
            with pytest.raises(ConnectionFault):
                reader.read(block)
            return
        assert list(reader.read(block).pairs) == wanted


def test_fields_of_one_call_alone_are_read_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, encoder = FieldReader(), hpack.Encoder()
    said = [(b":method", b"POST"), (b":path", b"/a.B/C"), (b"te", b"trailers")]
    reader.read(encoder.encode(said))
    monkeypatch.setattr(reader._decoder, "decode", None)
    for trace in (b"1", b"2" * 126):
        got = reader.read(encoder.encode(said) + plain((b"traceparent", trace)))
        assert list(got.pairs) == [*said, (b"traceparent", trace)]
