"""``fedparty probe`` run within a party: the command, and the reading of what it says.

Owns the translation between the probe's JSON and the doctor's words. The probe is `fedparty.flow.probe`'s; a test holds
the two halves together.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from fedparty.deploy.commands import PYTHON
from fedparty.deploy.doctor.findings import FAIL, Check, Way
from fedparty.deploy.engine.base import Engine
from fedparty.errors import FedpartyError

PROBE = "probe"
"""The check that stands for the examination from within, where that could not be made."""

_STARTING_S = 20.0
_A_WAY_S = 2.5


@dataclass(frozen=True)
class Answers:
    """What a party sees of itself and of the others."""

    checks: tuple[Check, ...]
    ways: tuple[Way, ...] = ()


def command(parties: Sequence[str], *, is_throughput_wanted: bool) -> tuple[str, ...]:
    """Return the argv of a probe from within a party."""
    asked = ("--peers", ",".join(parties), *(("--throughput",) if is_throughput_wanted else ()))
    return (PYTHON, "-m", "fedparty", "probe", "--home", ".", "--output", "json", *asked)


async def ask(engine: Engine, parties: Sequence[str], *, is_throughput_wanted: bool) -> Answers:
    """Examine a party from within; where that cannot be done, this is a failed check."""
    remedy = f"python deploy.py {engine.party}"
    try:
        argv = command(parties, is_throughput_wanted=is_throughput_wanted)
        done = await engine.execute(argv, timeout_s=_STARTING_S + _A_WAY_S * len(parties))
    except FedpartyError as exc:
        return Answers((Check(PROBE, FAIL, exc.message, exc.hint or remedy),))
    try:
        return read(done.output.strip().splitlines()[-1])
    except (IndexError, ValueError):
        return Answers((Check(PROBE, FAIL, done.last_lines() or f"ended with {done.code}", remedy),))


def read(line: str) -> Answers:
    """Read what a probe wrote; fields that a newer one adds are left out.

    Raises
    ------
    ValueError
        It is something else.
    """
    try:
        told = json.loads(line)
        checks = (Check(each["name"], each["state"], each["detail"], each["remedy"]) for each in told["checks"])
        ways = (
            Way(
                told["party"],
                each["party"],
                latency_ms=each["latency_ms"],
                throughput_mib_s=each["throughput_mib_s"],
                hop=each["hop"],
                at=each["at"],
                address=each["address"],
                detail=each["detail"],
                remedy=each["remedy"],
            )
            for each in told["peers"]
        )
        return Answers(tuple(checks), tuple(ways))
    except (KeyError, TypeError) as exc:
        raise ValueError(f"not a probe's answers: {line[:200]!r}") from exc
