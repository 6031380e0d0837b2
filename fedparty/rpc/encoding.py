"""How a value becomes the bytes of an object and a value again: raw bytes, NumPy arrays, msgpack. Never pickle.

Owns the three encodings of `DeliverHeader.encoding`. Does not own chunks and checksums (see `stream`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgpack  # type: ignore[import-untyped]
import numpy as np

from fedparty.errors import ComponentError, RpcError
from fedparty.rpc import catalogue
from fedparty.rpc.v1.peer_pb2 import DeliverHeader

_ARRAY_EXTENSION = 1  # msgpack extension type: an array inside a structure
_ARRAY_KINDS = frozenset("biufcmMSU")
_WHAT_CAN_BE_SENT = (
    "Send bytes, NumPy arrays of numbers or fixed-length text, None, booleans, 64-bit integers, floats, text, "
    "and lists and dictionaries of these."
)


@dataclass(frozen=True)
class Encoded:
    """A value as bytes, and what a reader must know about them.

    Parameters
    ----------
    data
        The value's own memory where that is possible; it must not change until the object was sent.
    encoding
        ``bytes``, ``msgpack`` or ``ndarray``.
    dtype, shape
        Of an array, little-endian and C-contiguous.
    """

    data: memoryview
    encoding: str
    dtype: str = ""
    shape: tuple[int, ...] = ()


def encode(value: object) -> Encoded:
    """Return `value` as bytes; arrays and bytes are not copied.

    Raises
    ------
    ComponentError
        There is no encoding for such a value.
    """
    if isinstance(value, bytes | bytearray | memoryview):
        view = memoryview(value)
        return Encoded(view.cast("B") if view.c_contiguous else memoryview(view.tobytes()), "bytes")
    if isinstance(value, np.ndarray):
        array = _little_endian(value)
        return Encoded(bytes_of(array), "ndarray", array.dtype.str, array.shape)
    try:
        packed = msgpack.packb(value, default=_pack_other)
    except (TypeError, ValueError, OverflowError) as exc:
        raise ComponentError(
            f"a value of type {type(value).__name__} cannot be sent: {exc}", hint=_WHAT_CAN_BE_SENT
        ) from exc
    return Encoded(memoryview(packed), "msgpack")


def new_array(header: DeliverHeader) -> np.ndarray[Any, Any]:
    """Return the array that an object of encoding ``ndarray`` fills, uninitialised.

    Raises
    ------
    RpcError
        ``BAD_REQUEST``: dtype, shape and size do not fit together.
    """
    array = _new_array(header.dtype, header.shape)
    if array.nbytes != header.size_bytes:
        raise _malformed(
            f"an array of {header.size_bytes} bytes is not {header.dtype!r} of shape {tuple(header.shape)}"
        )
    return array


def decode_msgpack(data: bytes) -> object:
    """Return the value of an object of encoding ``msgpack``; tuples have become lists.

    Raises
    ------
    RpcError
        ``BAD_REQUEST``: the bytes are not msgpack.
    """
    try:
        return msgpack.unpackb(data, ext_hook=_unpack_other, strict_map_key=False)
    except (ValueError, msgpack.UnpackException) as exc:
        raise _malformed(f"an object is not msgpack: {exc}") from exc


def _little_endian(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if array.dtype.kind not in _ARRAY_KINDS:
        raise ComponentError(f"an array of dtype {array.dtype} cannot be sent", hint=_WHAT_CAN_BE_SENT)
    return np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")


def bytes_of(array: np.ndarray[Any, Any]) -> memoryview:
    """Return an array's memory; its own for every dtype that NumPy can view as bytes without a copy."""
    return array.reshape(-1).view(np.uint8).data if array.nbytes else memoryview(bytearray())


def _new_array(dtype_text: str, shape: Sequence[int]) -> np.ndarray[Any, Any]:
    try:
        dtype = np.dtype(dtype_text)
    except (TypeError, ValueError) as exc:
        raise _malformed(f"{dtype_text!r} is not a dtype") from exc
    if dtype.kind not in _ARRAY_KINDS or math.prod(shape) * max(dtype.itemsize, 1) >= 1 << 62:
        raise _malformed(f"an array {dtype_text!r} of shape {tuple(shape)} is not accepted")
    return np.empty(tuple(shape), dtype)


def _pack_other(value: object) -> object:
    if isinstance(value, np.generic) and value.dtype.kind in "biuf":
        return value.item()
    if isinstance(value, np.ndarray):
        array = _little_endian(value)
        packed = msgpack.packb([array.dtype.str, list(array.shape), array.tobytes()])
        return msgpack.ExtType(_ARRAY_EXTENSION, packed)
    raise TypeError(f"{type(value).__name__} has no encoding")


def _unpack_other(code: int, data: bytes) -> object:
    if code != _ARRAY_EXTENSION:
        raise ValueError(f"unknown extension {code}")
    try:
        dtype, shape, raw = msgpack.unpackb(data)
        array = _new_array(dtype, shape)
        bytes_of(array)[:] = raw
    except (TypeError, ValueError, RpcError) as exc:
        raise ValueError(f"a damaged array: {exc}") from exc
    return array


def _malformed(message: str) -> RpcError:
    return catalogue.error("BAD_REQUEST", message)
