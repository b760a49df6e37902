"""Raw encodings: what goes in comes out, sizes are checked, nothing else is believed."""

import struct
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from infermesh import datatypes, tensors
from infermesh.errors import BadTensor, InvalidInput

KINDS = {
    "BOOL": "?",
    "UINT8": "u1",
    "UINT16": "u2",
    "UINT32": "u4",
    "UINT64": "u8",
    "INT8": "i1",
    "INT16": "i2",
    "INT32": "i4",
    "INT64": "i8",
    "FP16": "f2",
    "FP32": "f4",
    "FP64": "f8",
}
SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


@given(st.data())
def test_arrays_survive_in_every_byte_order(data: st.DataObject) -> None:
    datatype, kind = data.draw(st.sampled_from(sorted(KINDS.items())))
    order = data.draw(st.sampled_from("<>"))
    array = data.draw(hnp.arrays(np.dtype(kind).newbyteorder(order), SHAPES))
    assert tensors.datatype_of(array) == datatype
    raw = tensors.encode(array)
    assert len(raw) == array.size * datatypes.ITEM_SIZES[datatype]
    back = tensors.decode("x", datatype, array.shape, raw)
    assert back.dtype == np.dtype(kind).newbyteorder("<")
    np.testing.assert_array_equal(back, array)


@given(hnp.arrays("f4", hnp.array_shapes(min_dims=2, max_dims=3, max_side=4)))
def test_layout_does_not_matter(array: Any) -> None:
    for view in (array.T, array[::-1], np.asfortranarray(array), array[..., ::2]):
        back = tensors.decode("x", "FP32", view.shape, tensors.encode(view))
        np.testing.assert_array_equal(back, view)


def test_the_bytes_are_those_of_the_protocol() -> None:
    assert tensors.encode(np.array([[1, 2]], ">i2")) == b"\x01\x00\x02\x00"
    assert tensors.encode(np.array([True, False])) == b"\x01\x00"
    assert tensors.encode(np.array(["é", "b"])) == b"\x02\x00\x00\x00\xc3\xa9\x01\x00\x00\x00b"
    assert tensors.encode(np.float32(1)) == struct.pack("<f", 1)


@given(st.lists(st.binary(max_size=9)), st.booleans())
def test_bytes_survive(items: list[bytes], columns: bool) -> None:
    array = np.empty(len(items), dtype=object)
    array[:] = items
    shape = (len(items), 1) if columns else (len(items),)
    back = tensors.decode("x", "BYTES", shape, tensors.encode(array.reshape(shape)))
    assert back.shape == shape
    assert back.reshape(-1).tolist() == items


@given(st.lists(st.text(max_size=5)))
def test_text_is_utf8(words: list[str]) -> None:
    array = np.empty(len(words), dtype=object)
    array[:] = words
    back = tensors.decode("x", "BYTES", [len(words)], tensors.encode(array))
    assert [item.decode() for item in back] == words


@pytest.mark.parametrize(
    "array", [np.array(["a", "bc"]), np.array([b"a", b"bc"]), np.array(["a", b"bc"], dtype=object)]
)
def test_every_kind_of_text_array_is_bytes(array: Any) -> None:
    assert tensors.datatype_of(array) == "BYTES"
    assert datatypes.decode_bytes("x", tensors.encode(array)) == [b"a", b"bc"]


def test_trailing_zeros_of_bytes_are_kept_in_object_arrays() -> None:
    array = np.array([b"a\x00", b"\x00"], dtype=object)
    assert datatypes.decode_bytes("x", tensors.encode(array)) == [b"a\x00", b"\x00"]


def test_bfloat16_travels_as_its_bits() -> None:
    array = np.array([1.5, -2.0, np.inf], ml_dtypes.bfloat16)
    assert tensors.datatype_of(array) == "BF16"
    back = tensors.decode("x", "BF16", [3], tensors.encode(array))
    assert back.dtype == np.dtype("<u2")
    np.testing.assert_array_equal(back.view(ml_dtypes.bfloat16), array)


@given(st.sampled_from(sorted(datatypes.ITEM_SIZES)), st.lists(st.integers(0, 5), max_size=3), st.integers(-3, 3))
def test_a_wrong_size_names_the_tensor(datatype: str, shape: list[int], off: int) -> None:
    size = datatypes.elements(shape) * datatypes.ITEM_SIZES[datatype] + off
    if off == 0 or size < 0:
        return
    with pytest.raises(BadTensor) as caught:
        tensors.decode("image", datatype, shape, bytes(size))
    assert caught.value.metadata["tensor"] == "image"
    assert caught.value.metadata["got"] == f"{size} bytes"


@pytest.mark.parametrize("shape", [[-1], [2, -1], [-1, -4], [-2, -2]])
@pytest.mark.parametrize("datatype", ["FP32", "BYTES"])
def test_a_negative_size_is_refused(datatype: str, shape: list[int]) -> None:
    with pytest.raises(BadTensor, match="image"):
        tensors.decode("image", datatype, shape, bytes(16))


@pytest.mark.parametrize("shape", [[1] * 70, [0, 1 << 62, 1 << 62]])
@pytest.mark.parametrize("datatype", ["FP32", "BYTES"])
def test_a_shape_beyond_numpy_is_refused(datatype: str, shape: list[int]) -> None:
    count = datatypes.elements(shape)
    data = datatypes.encode_bytes([b"a"] * count) if datatype == "BYTES" else bytes(4 * count)
    with pytest.raises(BadTensor, match="image"):
        tensors.decode("image", datatype, shape, data)


@given(st.binary(max_size=40))
def test_any_bytes_decode_or_are_refused(data: bytes) -> None:
    try:
        items = datatypes.decode_bytes("words", data)
    except BadTensor:
        return
    assert datatypes.encode_bytes(items) == data


@pytest.mark.parametrize(
    "data", [b"\x01", b"\x00\x00\x00", b"\x05\x00\x00\x00abc", b"\xff\xff\xff\xffabcd", b"\x00\x00\x00\x00\x01"]
)
def test_lengths_past_the_end_are_refused(data: bytes) -> None:
    with pytest.raises(BadTensor, match="words"):
        datatypes.decode_bytes("words", data)


def test_the_number_of_elements_is_checked() -> None:
    with pytest.raises(BadTensor, match="2 elements") as caught:
        tensors.decode("words", "BYTES", [2], datatypes.encode_bytes([b"one"]))
    assert caught.value.metadata["got"] == "1 elements"


@pytest.mark.parametrize("dtype", ["c8", "M8[s]", "m8[s]", "f16", [("a", "i4")]])
def test_numpy_types_without_a_name(dtype: Any) -> None:
    if np.dtype(dtype).itemsize == 8 and np.dtype(dtype).kind == "f":
        pytest.skip("long double is double here")
    with pytest.raises(InvalidInput, match="counterpart"):
        tensors.datatype_of(np.zeros(1, dtype))


@pytest.mark.parametrize("datatype", ["", "fp32", "FLOAT", "FP8", "STRING"])
def test_datatypes_that_are_unknown(datatype: str) -> None:
    with pytest.raises(InvalidInput, match="datatype"):
        datatypes.check_datatype(datatype)
    with pytest.raises(InvalidInput, match="datatype"):
        tensors.numpy_dtype(datatype)
    with pytest.raises(InvalidInput, match="datatype"):
        tensors.decode("x", datatype, [1], bytes(4))


@pytest.mark.parametrize("datatype", [*datatypes.ITEM_SIZES, "BYTES"])
def test_datatypes_that_are_known(datatype: str) -> None:
    assert datatypes.check_datatype(datatype) == datatype
    dtype = np.dtype(tensors.numpy_dtype(datatype))
    assert datatype == "BYTES" or dtype.itemsize == datatypes.ITEM_SIZES[datatype]


def test_decoding_copies_nothing() -> None:
    raw = bytes(1024)
    array = tensors.decode("x", "UINT8", [1024], raw)
    assert not array.flags.owndata
    assert not array.flags.writeable


def test_a_memoryview_is_as_good() -> None:
    raw = memoryview(bytearray(struct.pack("<4f", 1, 2, 3, 4)))
    assert tensors.decode("x", "FP32", [2, 2], raw).tolist() == [[1, 2], [3, 4]]
    assert tensors.decode("x", "BYTES", [1], memoryview(b"\x01\x00\x00\x00a")).tolist() == [b"a"]
