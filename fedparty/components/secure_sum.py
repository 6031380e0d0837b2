"""The secure sum: the members learn the sum of all their values and nothing else. It verifies an installation.

Owns the protocol and its arithmetic (`docs/toy.md` explains both). Every party holds the value 1 `data_num` times, so
the sum is known beforehand and a wrong one fails the task.

**Source** Additive secret sharing over a ring, as in Cramer, Damgård, Nielsen, *Secure Multiparty Computation and
Secret Sharing* (2015), §1.3.2 and §3.2; the ring is Z/2^64, where any n-1 of n shares are uniform and independent of
the value. Security is against members that keep to the protocol.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from fedparty.context import Context
from fedparty.errors import ComponentError
from fedparty.types import Member

FRACTION_BITS = 20
"""A value v is held as round(v * 2^20): steps of about 10^-6."""

RING = 1 << 64
TOLERANCE = 1e-6

_KEYSTREAM_BYTES = 1 << 18
_ZEROS = bytes(_KEYSTREAM_BYTES)
_BLOCK_BYTES = 16
_WORDS = {2: "two", 3: "three", 4: "four", 5: "five"}

Shares = NDArray[np.uint64]
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Parameters:
    """What a job may say.

    Parameters
    ----------
    data_num
        How many values each member has.
    partition
        In how many pieces they travel; never more than there are values.
    """

    data_num: int = 1000
    partition: int = 10

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> Parameters:
        """Check the parameters of a task.

        Raises
        ------
        ComponentError
            One is unknown, or not a whole number from 1 on.
        """
        for key, value in given.items():
            if key not in cls.__dataclass_fields__:
                raise ComponentError(
                    f"secure_sum: unknown parameter {key!r}", hint=f"Known are {', '.join(cls.__dataclass_fields__)}."
                )
            if type(value) is not int or value < 1:
                raise ComponentError(f"secure_sum: {key} is {value!r}", hint="Give a whole number from 1 on.")
        return cls(**given)


class SecureSum:
    """Sum of all values of one guest and any number of hosts."""

    def guest(self, ctx: Context) -> dict[str, float]:
        """Share, add up, collect the hosts' sums, check the result."""
        parameters, data = _begin(ctx)
        own = _exchange_shares(ctx, data, parameters.partition)
        hosts = [member for member in ctx.members if member.role == "host"]
        sums = [_whole_number(ctx.receive("sum", host), host) for host in hosts]
        ctx.log.info("receive host sum from guest")
        result = decode(own + sum(sums))
        expected = float(parameters.data_num * len(ctx.members))
        if not abs(result - expected) < TOLERANCE:
            raise ComponentError(
                f"the secure sum is {result}, and should be {expected}",
                hint="Run it again; if it stays wrong, report it.",
            )
        ctx.log.info("success to calculate secure_sum, it is %s", result)
        return {"secure_sum": result}

    def host(self, ctx: Context) -> None:
        """Share, add up, send the sum of the shares to the guest."""
        parameters, data = _begin(ctx)
        own = _exchange_shares(ctx, data, parameters.partition)
        ctx.log.info("send host sum to guest")
        ctx.send("sum", own, to="guest")


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
    total %= RING
    signed = total - RING if total >= RING // 2 else total
    return signed / float(1 << FRACTION_BITS)


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


def _begin(ctx: Context) -> tuple[Parameters, Values]:
    ctx.log.info("begin to init parameters of secure add example %s", ctx.role)
    if [member.role for member in ctx.members].count("guest") != 1 or len(ctx.members) < 2:
        raise ComponentError("secure_sum: needs one guest and at least one host", hint="Correct the job's roles.")
    parameters = Parameters.read(ctx.parameters)
    ctx.log.info("begin to make %s data", ctx.role)
    return parameters, np.ones(parameters.data_num)


def _exchange_shares(ctx: Context, data: Values, partition: int) -> int:
    """Give every other member a random part, and return the sum of the parts this member then holds."""
    others = [member for member in ctx.members if member != ctx.member]
    pieces = np.array_split(data, min(partition, len(data)))
    side = "host" if ctx.role == "guest" else "guest"
    ctx.log.info("split data into %s random parts", _WORDS.get(len(ctx.members), len(ctx.members)))
    ctx.log.info("share one random part data to %s", side)
    kept = _send_parts(ctx, pieces, others)
    ctx.log.info("get share of one random part data from %s", side)
    received = [_receive_part(ctx, index, len(piece), other) for index, piece in enumerate(pieces) for other in others]
    ctx.log.info("begin to get sum of guest and host")
    return (kept + sum(received)) % RING


def _send_parts(ctx: Context, pieces: list[Values], others: list[Member]) -> int:
    """Send uniform parts piece by piece, and return the sum of what is kept: the values less all parts sent."""
    n_summands = sum(map(len, pieces)) * len(ctx.members)
    uniform, kept_sum = UniformShares(), 0
    for index, piece in enumerate(pieces):
        kept = encode(piece, n_summands)
        for other in others:
            part = uniform.draw(len(piece))
            ctx.send(f"share.{index}", part, to=other)
            kept -= part
        kept_sum += _sum(kept)
    return kept_sum


def _receive_part(ctx: Context, index: int, length: int, source: Member) -> int:
    part = ctx.receive(f"share.{index}", source)
    if not isinstance(part, np.ndarray) or part.dtype != np.uint64 or part.shape != (length,):
        raise ComponentError(
            f"share.{index} from {source} is not {length} unsigned 64-bit numbers",
            hint="Guest and hosts must be given the same data_num and partition.",
        )
    return _sum(part)


def _whole_number(value: Any, source: Member) -> int:
    if type(value) is not int:
        raise ComponentError(f"sum from {source} is not a whole number", hint="Both parties must run the same release.")
    return value


def _sum(part: Shares) -> int:
    return int(part.sum(dtype=np.uint64))
