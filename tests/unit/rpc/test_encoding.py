"""Values survive the way through bytes, and what has no encoding is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from fedparty.errors import ComponentError, RpcError
from fedparty.rpc import encoding, stream
from fedparty.rpc.v1.peer_pb2 import DeliverHeader

LEAVES = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text()
STRUCTURES = st.recursive(
    LEAVES | st.binary(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text() | st.integers(0, 99), inner, max_size=5),
)
DTYPES = (
    nps.integer_dtypes(endianness="?")
    | nps.unsigned_integer_dtypes(endianness="?")
    | nps.floating_dtypes(endianness="?")
    | nps.boolean_dtypes()
    | nps.unicode_string_dtypes(endianness="?")
)


def header_of(encoded: encoding.Encoded) -> DeliverHeader:
    return DeliverHeader(
        size_bytes=len(encoded.data), encoding=encoded.encoding, dtype=encoded.dtype, shape=encoded.shape
    )


def transported(value: object) -> Any:
    """Return what arrives of a value."""
    encoded = encoding.encode(value)

    async def messages() -> AsyncIterator[bytes]:
        for message in stream.messages(header_of(encoded), encoded.data):
            yield message

    return asyncio.run(stream.read_value(messages()))


@given(STRUCTURES)
def test_structures(value: object) -> None:
    received = transported(value)
    assert received == value
    assert type(received) is type(value)


@given(nps.arrays(DTYPES, nps.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=6)))
def test_arrays(array: np.ndarray[Any, Any]) -> None:
    received = transported(array)
    assert received.shape == array.shape
    assert received.dtype == array.dtype.newbyteorder("<")
    assert received.tobytes() == array.astype(received.dtype).tobytes()


@pytest.mark.parametrize(
    "array",
    [np.arange(24).reshape(4, 6).T, np.arange(24)[::-3], np.asfortranarray(np.ones((3, 2)))],
    ids=["transposed", "strided", "Fortran order"],
)
def test_memory_layout_does_not_matter(array: np.ndarray[Any, Any]) -> None:
    np.testing.assert_array_equal(transported(array), array)


def test_arrays_inside_structures() -> None:
    received = transported({"layers": [np.arange(3, dtype=">i4"), np.float32(1.5)], 7: np.zeros((0, 2))})
    np.testing.assert_array_equal(received["layers"][0], [0, 1, 2])
    assert received["layers"][1] == 1.5
    assert received[7].shape == (0, 2)


def test_contiguous_memory_is_not_copied() -> None:
    array = np.arange(10, dtype="<i8")
    data = encoding.encode(array).data
    array[0] = 99
    assert data[0] == 99


def test_bytes_of_every_kind_arrive_as_bytes() -> None:
    for value in (b"abc", bytearray(b"abc"), memoryview(b"abc"), memoryview(b"a.b.c.")[::2]):
        assert transported(value) == b"abc"
        assert type(transported(value)) is bytes


@pytest.mark.parametrize(
    "value",
    [
        object(),
        {1, 2},
        2**64,
        np.array([object()]),
        np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
        [np.array([None])],
    ],
    ids=["object", "set", "large integer", "object array", "structured array", "object array inside"],
)
def test_what_has_no_encoding_is_refused(value: object) -> None:
    with pytest.raises(ComponentError, match="cannot be sent") as caught:
        encoding.encode(value)
    assert "NumPy" in caught.value.hint


@pytest.mark.parametrize(
    ("dtype", "shape", "size"),
    [
        ("|O", [1], 8),
        ("<i8", [2], 8),
        ("<i8", [2**40, 2**40], 8),
        ("nonsense", [1], 8),
        ("i4,i4", [1], 8),
        ("|V8", [1], 8),
    ],
)
def test_malformed_arrays_are_refused(dtype: str, shape: list[int], size: int) -> None:
    with pytest.raises(RpcError) as caught:
        encoding.new_array(DeliverHeader(size_bytes=size, encoding="ndarray", dtype=dtype, shape=shape))
    assert caught.value.code == "BAD_REQUEST"


@pytest.mark.parametrize(
    "data",
    [b"\xc1", b"\x81", b"\x01\x02", msgpack.packb(msgpack.ExtType(9, b""))]
    + [
        msgpack.packb(msgpack.ExtType(1, msgpack.packb(part)))
        for part in (3, ["|O", [1], b"12345678"], ["<i8", [2], b""])
    ],
)
def test_malformed_structures_are_refused(data: bytes) -> None:
    with pytest.raises(RpcError) as caught:
        encoding.decode_msgpack(data)
    assert caught.value.code == "BAD_REQUEST"
