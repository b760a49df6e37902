"""Bundles with large payloads: what travels is the plain message, whoever reads or writes it."""

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from infermesh.mesh.parcel import LARGE, Large, Parcel, pieces, read, whole
from infermesh.v1.worker_service_pb2 import ResultBundle, ResultItem, TargetLoad, WorkBundle, WorkItem

SIZES = st.sampled_from([0, 1, 100, LARGE - 1, LARGE, LARGE + 1, 3 * LARGE])
PAYLOADS = st.builds(lambda size, fill: bytes((fill,)) * size, SIZES, st.integers(0, 255))
WORK = st.builds(WorkItem, id=st.integers(0, 2**64 - 1), target=st.text(max_size=9), payload=PAYLOADS)
RESULTS = st.builds(ResultItem, id=st.integers(0, 2**64 - 1), payload=PAYLOADS, final=st.booleans())
LOADS = st.lists(st.builds(TargetLoad, target=st.text(max_size=9), credit=st.integers(0, 9)), max_size=3)
BUNDLES = st.builds(WorkBundle, items=st.lists(WORK, max_size=5), gateway=st.text(max_size=9)) | st.builds(
    ResultBundle, results=st.lists(RESULTS, max_size=5), loads=LOADS, probe=st.integers(0, 2**64 - 1)
)


def items(bundle):
    return bundle.items if isinstance(bundle, WorkBundle) else bundle.results


def apart(bundle) -> Parcel:
    """Returns a bundle as those send it who put large payloads aside, in one piece or in two."""
    rest, large = type(bundle).FromString(bundle.SerializeToString()), {}
    for place, item in enumerate(items(rest)):
        if len(item.payload) >= LARGE:
            middle = place % 2 * LARGE
            large[place] = (item.payload[:middle], item.payload[middle:]) if middle else (item.payload,)
            item.ClearField("payload")
    return Parcel(rest, large)


def put_together(bundle, large: Large):
    for place, payload in large.items():
        assert not items(bundle)[place].payload
        items(bundle)[place].payload = bytes(whole(payload))
    return bundle


@given(BUNDLES)
def test_what_is_sent_in_pieces_is_the_plain_message(bundle):
    sent = b"".join(pieces(apart(bundle)))
    assert type(bundle).FromString(sent) == bundle


@given(BUNDLES)
def test_what_is_read_around_the_payloads_is_the_plain_message(bundle):
    for data in (bundle.SerializeToString(), b"".join(pieces(apart(bundle)))):
        rest, large = read(data, type(bundle))
        assert put_together(rest, large) == bundle


@given(BUNDLES, st.data())
def test_damaged_bytes_are_read_or_refused_as_protobuf_does(bundle, data):
    sent = bytearray(bundle.SerializeToString())
    if sent:
        for _ in range(data.draw(st.integers(1, 3))):
            sent[data.draw(st.integers(0, min(40, len(sent) - 1)))] = data.draw(st.integers(0, 255))
    del sent[data.draw(st.integers(0, len(sent))) :]
    try:
        rest, large = read(bytes(sent), type(bundle))
    except DecodeError:
        return
    assert put_together(rest, large) == type(bundle).FromString(bytes(sent))


def test_each_payload_is_that_of_its_item():
    sizes = (LARGE, 1, 0, LARGE + 1)
    sent = WorkBundle(items=[WorkItem(id=n, payload=bytes([n]) * size) for n, size in enumerate(sizes)])
    rest, large = read(sent.SerializeToString(), WorkBundle)
    assert {place: whole(payload) for place, payload in large.items()} == {
        0: sent.items[0].payload,
        3: sent.items[3].payload,
    }
    assert [item.payload for item in rest.items] == [b"", b"\1", b"", b""]


def test_large_payloads_are_not_copied():
    payload = bytes(range(256)) * 512
    sent = pieces(Parcel(WorkBundle(items=[WorkItem(id=1)]), {0: (payload,)}))
    assert any(piece is payload for piece in sent)
    data = b"".join(sent)
    _, large = read(data, WorkBundle)
    assert isinstance(large[0][0], memoryview)
    assert large[0][0].obj is data


def test_a_payload_in_pieces_arrives_in_one():
    sent = pieces(Parcel(ResultBundle(results=[ResultItem(id=1)]), {0: (b"head", bytes(LARGE), b"tail")}))
    _, large = read(b"".join(sent), ResultBundle)
    assert whole(large[0]) == b"head" + bytes(LARGE) + b"tail"


def test_of_two_payloads_in_an_item_the_last_counts():
    twice = WorkItem(id=1, payload=bytes(LARGE)).SerializeToString() + WorkItem(payload=b"last").SerializeToString()
    size = len(twice)
    head = bytes((0x0A, size & 127 | 128, size >> 7 & 127 | 128, size >> 14))
    bundle, large = read(head + twice, WorkBundle)
    assert put_together(bundle, large) == WorkBundle(items=[WorkItem(id=1, payload=b"last")])


@pytest.mark.parametrize("kind", [WorkBundle, ResultBundle])
def test_what_is_no_bundle_is_refused(kind):
    with pytest.raises(DecodeError):
        read(b"\xff" * LARGE, kind)
