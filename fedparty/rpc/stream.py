"""Objects as streams: a header, chunks, a trailer with the checksum; both directions, nothing kept twice.

Owns the order of messages of ``peer.Mailbox/Deliver`` and ``local.Mailbox/Receive``. Does not own where they go.
"""

from __future__ import annotations

import asyncio
import ctypes
import io
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator

import numpy as np
import xxhash
from google.protobuf.message import Message

from fedparty.errors import RpcError
from fedparty.rpc import catalogue, encoding
from fedparty.rpc.server import parse
from fedparty.rpc.v1.peer_pb2 import DeliverHeader, DeliverTrailer

CHUNK_BYTES = 1 << 20
CHECKSUM_BYTES = 16

_BATCH_CHUNKS = 4
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # mallopt(3)


def keep_chunk_memory() -> None:
    """Let malloc reuse the memory of chunks instead of giving each back: saves a third of the cost of receiving."""
    mallopt: Callable[[int, int], int] | None = getattr(ctypes.CDLL(None), "mallopt", None)
    if sys.platform == "linux" and mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 4 * CHUNK_BYTES)
        mallopt(_M_TRIM_THRESHOLD, 32 * CHUNK_BYTES)
        mallopt(_M_ARENA_MAX, 2)  # chunks pass between threads: each arena more keeps some of its own


def messages(header: DeliverHeader, data: memoryview) -> Iterator[bytes]:
    """Yield the messages of an object.

    Parameters
    ----------
    header
        Its ``size_bytes`` is that of `data`.
    data
        The object's bytes, item size 1.
    """
    yield header.SerializeToString()
    checksum = xxhash.xxh3_128()
    for start in range(0, len(data), CHUNK_BYTES):
        chunk = bytes(data[start : start + CHUNK_BYTES])
        checksum.update(chunk)
        yield chunk
    yield DeliverTrailer(checksum=checksum.digest()).SerializeToString()


async def read_value(stream: AsyncIterator[bytes]) -> object:
    """Return the value of an object that arrives as a stream.

    Raises
    ------
    RpcError
        ``CHECKSUM_MISMATCH``: bytes are missing or damaged. ``BAD_REQUEST``: they are not what the header says.
    """
    header = parse(DeliverHeader, await next_message(stream))
    sink = _ArraySink(header) if header.encoding == "ndarray" else _BytesSink(header)
    await _fill(sink, header.size_bytes, stream)
    trailer = parse(DeliverTrailer, await next_message(stream))
    if trailer.checksum != sink.checksum.digest():
        raise damaged("an object's checksum does not fit its bytes")
    return sink.value()


async def _fill(sink: _Sink, size_bytes: int, stream: AsyncIterator[bytes]) -> None:
    """Give a sink its chunks: a thread takes those of a large object while the next ones arrive."""
    writing: asyncio.Future[None] | None = None
    batch: list[bytes] = []
    missing = size_bytes
    while missing > 0:
        batch.append(await next_message(stream))
        missing -= len(batch[-1])
        if missing < 0 or not batch[-1]:
            raise damaged("an object's chunks do not add up to its size")
        if len(batch) < _BATCH_CHUNKS and missing:
            continue
        if writing is not None:
            await writing
        if size_bytes <= CHUNK_BYTES:
            sink.write(batch)
        else:
            writing = asyncio.get_running_loop().run_in_executor(None, sink.write, batch)
        batch = []
    if writing is not None:
        await writing


async def next_message(stream: AsyncIterator[bytes]) -> bytes:
    """Return the next message.

    Raises
    ------
    RpcError
        ``CHECKSUM_MISMATCH``: the stream ended before the object did.
    """
    try:
        return await anext(stream)
    except StopAsyncIteration:
        raise damaged("an object's stream ended too early") from None


async def read_bytes(stream: AsyncIterator[bytes], size_bytes: int) -> bytes:
    """Return so many bytes that arrive in chunks; what is beyond them is not read.

    Raises
    ------
    RpcError
        ``CHECKSUM_MISMATCH``: they are fewer or more.
    """
    content = bytearray()
    while len(content) < size_bytes:
        content += await next_message(stream)
    if len(content) > size_bytes:
        raise damaged(f"more than {size_bytes} bytes arrived")
    return bytes(content)


def raw_messages(header: Message, content: bytes) -> Iterator[bytes]:
    """Yield a header, then bytes in chunks."""
    yield header.SerializeToString()
    for start in range(0, len(content), CHUNK_BYTES):
        yield content[start : start + CHUNK_BYTES]


def damaged(message: str) -> RpcError:
    """Return the error of an object whose bytes cannot be trusted."""
    return catalogue.error("CHECKSUM_MISMATCH", message)


class _Sink(ABC):
    """Where the bytes of an object are put together."""

    def __init__(self) -> None:
        self.checksum = xxhash.xxh3_128()

    def write(self, chunks: list[bytes]) -> None:
        """Take the next bytes; may run in a thread, one call at a time."""
        for chunk in chunks:
            self.checksum.update(chunk)
            self._write(chunk)

    @abstractmethod
    def value(self) -> object:
        """Return the value, once all bytes are there."""

    @abstractmethod
    def _write(self, chunk: bytes) -> None: ...


class _ArraySink(_Sink):
    """Fills a NumPy array."""

    def __init__(self, header: DeliverHeader) -> None:
        super().__init__()
        self._array = encoding.new_array(header)
        self._bytes = np.frombuffer(encoding.bytes_of(self._array), np.uint8)
        self._filled = 0

    def value(self) -> object:
        return self._array

    def _write(self, chunk: bytes) -> None:
        end = self._filled + len(chunk)
        np.copyto(self._bytes[self._filled : end], np.frombuffer(chunk, np.uint8))  # without the interpreter's lock
        self._filled = end


class _BytesSink(_Sink):
    """Grows a bytes object; `io.BytesIO` hands it out without a copy."""

    def __init__(self, header: DeliverHeader) -> None:
        super().__init__()
        if header.encoding not in ("bytes", "msgpack"):
            raise catalogue.error("BAD_REQUEST", f"an object of the unknown encoding {header.encoding!r}")
        self._is_packed = header.encoding == "msgpack"
        self._data = io.BytesIO()

    def value(self) -> object:
        data = self._data.getvalue()
        return encoding.decode_msgpack(data) if self._is_packed else data

    def _write(self, chunk: bytes) -> None:
        self._data.write(chunk)
