"""From bytes that come in chunks to lines.

Owns decoding and splitting of what commands write. Reads from nothing itself.
"""

from __future__ import annotations

import codecs
from collections.abc import Awaitable, Callable

CHUNK_BYTES = 65536


async def read_lines(read: Callable[[], Awaitable[bytes]], on_line: Callable[[str], None]) -> None:
    """Give each line of any length to `on_line`, until `read` returns nothing."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    begun: list[str] = []
    while chunk := await read():
        first, *others = decoder.decode(chunk).split("\n")
        begun.append(first)
        for line in others:
            on_line("".join(begun))
            begun = [line]
    if last := "".join(begun) + decoder.decode(b"", final=True):
        on_line(last)
