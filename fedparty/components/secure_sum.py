"""The secure sum: the members learn the sum of all their values and nothing else. It verifies an installation.

Owns the protocol (`docs/toy.md` explains it); its arithmetic is that of `fedparty.components.sharing`. Every party
holds the value 1 `data_num` times, so the sum is known beforehand and a wrong one fails the task.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from fedparty.components.parameters import Parameters
from fedparty.components.requirements import Requirements, Reveals
from fedparty.components.sharing import RING, Shares, UniformShares, Values, decode, encode
from fedparty.context import Context
from fedparty.errors import ComponentError
from fedparty.types import Member

TOLERANCE = 1e-6

_WORDS = {2: "two", 3: "three", 4: "four", 5: "five"}


class SecureSumParameters(Parameters):
    """What a job may say."""

    data_num: Annotated[int, Field(ge=1)] = 1000
    """How many values each member has."""
    partition: Annotated[int, Field(ge=1)] = 10
    """In how many pieces they travel; never more than there are values."""


class SecureSum:
    """Sum of all values of one guest and any number of hosts: verifies an installation."""

    Parameters: ClassVar = SecureSumParameters

    @classmethod
    def requirements(cls, _parameters: SecureSumParameters) -> Requirements:
        """Say that no table is read."""
        return Requirements((), Reveals.NOTHING)

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


def _begin(ctx: Context) -> tuple[SecureSumParameters, Values]:
    ctx.log.info("begin to init parameters of secure add example %s", ctx.role)
    if [member.role for member in ctx.members].count("guest") != 1 or len(ctx.members) < 2:
        raise ComponentError("secure_sum: needs one guest and at least one host", hint="Correct the job's roles.")
    parameters = SecureSumParameters.read("secure_sum", ctx.parameters)
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
