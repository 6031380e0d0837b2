"""Additive secret sharing: members add up numbers, and nobody sees more than the sum.

Owns the arithmetic and the one protocol, `open_sum`. Does not own what is added up (`secure_sum`, `statistics`).

**Source** Additive secret sharing over a ring, as in Cramer, Damgård, Nielsen, *Secure Multiparty Computation and
Secret Sharing* (2015), §1.3.2 and §3.2. The rings are Z/2^64 and, for sums of numbers of very different size,
Z/2^(64 w): any n-1 of n shares are uniform and independent of the value. Security is against members that keep to the
protocol.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from fedparty.context import Context
from fedparty.errors import ComponentError
from fedparty.types import Member

FRACTION_BITS = 20
"""In Z/2^64 a value v is held as round(v * 2^20): steps of about 10^-6."""

RING = 1 << 64
WORD_BITS = 64

WIDE_WORDS = 8
"""Words of a number whose size nobody knows beforehand."""
WIDE_FRACTION_BITS = 256
"""Steps of 10^-77: what float64 holds of numbers from 10^-60 on is not rounded."""
_WIDE_LIMIT_BITS = 240

_KEYSTREAM_BYTES = 1 << 18
_ZEROS = bytes(_KEYSTREAM_BYTES)
_BLOCK_BYTES = 16

Shares = NDArray[np.uint64]
Values = NDArray[np.float64]


class UniformShares:
    """Numbers uniform in Z/2^64 that nobody can guess.

    **Source** AES-256 in counter mode over zeros (NIST SP 800-38A §6.5), key and counter from the kernel's generator.
    """

    def __init__(self) -> None:
        self._keystream = Cipher(algorithms.AES(os.urandom(32)), modes.CTR(os.urandom(_BLOCK_BYTES))).encryptor()

    def draw(self, n: int) -> Shares:
        """Return the next `n` numbers, ``(n,) uint64``."""
        buffer = np.empty(n * 8 + _BLOCK_BYTES, np.uint8)  # the cipher wants room for one block more
        for start in range(0, n * 8, _KEYSTREAM_BYTES):
            size = min(_KEYSTREAM_BYTES, n * 8 - start)
            self._keystream.update_into(_ZEROS[:size], buffer.data[start : start + size + _BLOCK_BYTES])
        return buffer[: n * 8].view(np.uint64)


def encode(values: Values, n_summands: int) -> Shares:
    """Return values as fixed-point numbers in Z/2^64, negative ones in two's complement.

    Parameters
    ----------
    values
        ``(n,) float64``.
    n_summands
        How many values of this size are added up in all: their sum must not wrap around.

    Raises
    ------
    ComponentError
        A value is not a number, or larger than 2^42 / `n_summands`.
    """
    limit = 2.0 ** (62 - FRACTION_BITS) / n_summands
    if values.size and not float(np.abs(values).max()) <= limit:
        raise ComponentError(
            f"a value is not a number between -{limit:.6g} and {limit:.6g}",
            hint="Scale the values down, or use fewer of them: their sum must fit into 64 bits.",
        )
    return np.rint(values * 2.0**FRACTION_BITS).astype(np.int64).view(np.uint64)


def decode(total: int) -> float:
    """Return the number that a sum of fixed-point numbers in Z/2^64 stands for."""
    return _signed(total, 1) / float(1 << FRACTION_BITS)


def encode_wide(value: float, what: str) -> int:
    """Return a number as a whole number of steps of 2^-256, for `open_sum` with `WIDE_WORDS`.

    Raises
    ------
    ComponentError
        It is not a number, or not below 2^240, about 10^72: `what` names it.
    """
    if not abs(value) < 2.0**_WIDE_LIMIT_BITS:
        raise ComponentError(
            f"{what} is {value:.6g}, which cannot be added up: only numbers below 10^72 can",
            hint="Scale the column down, or take out the values that are no measurements.",
        )
    numerator, denominator = value.as_integer_ratio()
    return (numerator << WIDE_FRACTION_BITS) // denominator


def decode_wide(total: int) -> float:
    """Return the number, rounded once, that a sum of `encode_wide` stands for."""
    return total / (1 << WIDE_FRACTION_BITS)


def open_sum(ctx: Context, tag: str, values: Sequence[int], *, words: int = 1) -> list[int]:
    """Add up the members' vectors; every member learns the sums, and of each other's vector only what they tell.

    With two members a sum tells each of them the other's value: it knows its own.

    Parameters
    ----------
    ctx
        Of one member; all call it with the same tag, length and words.
    tag
        Names this sum; a tag of its own for each.
    values
        Whole numbers, whose sum lies in [-2^(64 `words` - 1), 2^(64 `words` - 1)).
    words
        Length of a share in 64-bit words.

    Raises
    ------
    ComponentError
        Another member's part has another length.
    """
    others = [member for member in ctx.members if member != ctx.member]
    uniform, kept = UniformShares(), list(values)
    for other in others:
        part = uniform.draw(len(kept) * words).reshape(len(kept), words)
        ctx.send(f"{tag}.share", part, to=other)
        kept = [value - number for value, number in zip(kept, _numbers(part), strict=True)]
    held = _add(ctx, f"{tag}.share", kept, others, words)
    for other in others:
        ctx.send(f"{tag}.sum", _words(held, words), to=other)
    return [_signed(total, words) for total in _add(ctx, f"{tag}.sum", held, others, words)]


def _add(ctx: Context, tag: str, own: Sequence[int], others: Sequence[Member], words: int) -> list[int]:
    totals = list(own)
    for other in others:
        part = ctx.receive(tag, other)
        _check(part, (len(totals), words), tag, other)
        totals = [total + number for total, number in zip(totals, _numbers(part), strict=True)]
    return totals


def _check(part: Any, shape: tuple[int, int], tag: str, source: Member) -> None:
    if not isinstance(part, np.ndarray) or part.dtype != np.uint64 or part.shape != shape:
        raise ComponentError(
            f"{tag} from {source} is not {shape[0]} numbers of {shape[1]} words",
            hint="All members must run the same release with the same parameters.",
        )


def _numbers(part: Shares) -> list[int]:
    return [int.from_bytes(row.tobytes(), "little") for row in part.astype("<u8", copy=False)]


def _words(numbers: Sequence[int], words: int) -> Shares:
    ring = 1 << (WORD_BITS * words)
    data = b"".join((number % ring).to_bytes(8 * words, "little") for number in numbers)
    return np.frombuffer(data, "<u8").astype(np.uint64).reshape(len(numbers), words)


def _signed(total: int, words: int) -> int:
    ring = 1 << (WORD_BITS * words)
    total %= ring
    return total - ring if total >= ring // 2 else total
