"""The proof that a federation computes: the toy job.

Owns the reading of its outcome. Runs it in a party, through the engine, like an operator of that party would.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from fedparty.deploy import commands
from fedparty.deploy.engine.base import Engine
from fedparty.errors import VerificationError

_SUCCESS = re.compile(r"success to calculate secure_sum, it is ([-+0-9.e]+)")
_VALUES_A_ROLE = 1000
_STARTING_S = 10.0
"""How much longer than the job itself the program may take."""


async def verify(engine: Engine, hosts: Sequence[str], *, timeout_s: float) -> float:
    """Run the secure sum from the engine's party with `hosts` and return it.

    Raises
    ------
    VerificationError
        The job failed, or the sum is not what it must be.
    """
    members = (engine.party, *hosts)
    done = await engine.execute(commands.toy(members, timeout_s=timeout_s), timeout_s=timeout_s + _STARTING_S)
    found = _SUCCESS.search(done.output + done.errors)
    if done.code != 0 or found is None:
        raise VerificationError(f"the toy job {_describe(members)} failed:\n{done.last_lines()}", hint=_hint(members))
    total, expected = float(found[1]), float(_VALUES_A_ROLE * len(members))
    if total != expected:
        raise VerificationError(f"the toy job {_describe(members)} gave {total}, not {expected}", hint=_hint(members))
    return total


def _describe(members: Sequence[str]) -> str:
    guest, *hosts = members
    return f"of guest {guest} and host {', '.join(hosts)}"


def _hint(members: Sequence[str]) -> str:
    return f"Look at: python deploy.py logs {members[0]} flow"
