"""A policy: rules, each of which allows something. What no rule allows is refused.

Owns the rules' words and the default. Does not own reading YAML (`reading`), nor deciding (`decisions`).
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from fedparty.crypto.leaving import Leaving
from fedparty.flow.people.users import UserRole
from fedparty.types import PARTY_ID, ROLE


def _listed(value: object) -> object:
    """Read ``all``, or a list."""
    if value == "all":
        return ALL
    if not isinstance(value, list | tuple):
        raise ValueError("this is a list, or all")
    return tuple(value)


def _each(pattern: str, what: str) -> AfterValidator:
    """Return a check of every word of a list."""
    expression = re.compile(pattern)

    def check(value: tuple[str, ...]) -> tuple[str, ...]:
        for each in value:
            if value != ALL and not expression.fullmatch(each):
                raise ValueError(f"{each!r} is not {what}")
        return value

    return AfterValidator(check)


ALL: tuple[str, ...] = ("all",)
Name = Annotated[str, Field(min_length=1, max_length=100)]
Names = Annotated[tuple[Name, ...], BeforeValidator(_listed)]
Parties = Annotated[Names, _each(PARTY_ID.pattern, "a party id")]
Roles = Annotated[Names, _each(ROLE.pattern, "a role")]
Shown = Annotated[Names, _each("logs|metrics", "logs or metrics")]
Digests = Annotated[Names, _each("[0-9a-f]{64}", "a SHA-256 in hexadecimal")]
UserRoles = Annotated[Names, _each("|".join(UserRole), f"one of {', '.join(UserRole)}")]


class Rule(BaseModel):
    """What one rule allows: whom, what, here, with what."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: Name
    parties: Parties
    """Whose submissions: the parties that open the job."""
    users: Names = ALL
    """Users of those parties, as these vouch for them."""
    user_roles: UserRoles = ALL
    """What those users are at their party."""
    components: Names
    roles: Roles = ALL
    """Which roles of the job this site may be asked to play."""
    signed: bool = False
    """Whether the user's own signature is needed."""
    tables: Names = ()
    """Which of this site's tables may be read."""
    reveals: Literal["aggregates", "individual"] = "aggregates"
    """What others may learn of these tables: sums over groups, or values of single rows, too."""
    shows: Shown = ()
    """What the people of the party that submitted see of this site's tasks, live: their logs, their metrics."""
    custom: bool | Digests = False
    """Whether jobs' own code may run, other parties' or this one's: none, any, or what has one of these SHA-256."""
    isolation: Literal["kernel", "none"] = "kernel"
    """What must hold such code: this machine's kernel; or nothing, for it is trusted like an installed component."""
    min_rows: Annotated[int, Field(ge=0)] = 0
    """How many rows a table has at least that is read."""
    sends: Names = ALL
    """Patterns of the tags under which this site's roles may send to other parties, as in file names."""
    max_object_bytes: Annotated[int, Field(ge=0)] = 0
    """Size of one object that leaves; 0: no limit."""
    max_task_bytes: Annotated[int, Field(ge=0)] = 0
    """Size of all that one role of a task sends in an attempt; 0: no limit."""
    min_group: Annotated[int, Field(ge=0)] = 0
    """The smallest group of rows that results may tell something of, where tables are read; 0: what the component
    keeps to by itself."""

    @property
    def leaving(self) -> Leaving:
        """What may leave."""
        return Leaving(None if self.sends == ALL else self.sends, self.max_object_bytes, self.max_task_bytes)


class Policy(BaseModel):
    """What a site allows."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    version: Literal[1]
    signed: bool = False
    """Whether every submission needs its user's own signature, whatever the rules say."""
    rules: Annotated[tuple[Rule, ...], Field(strict=False)] = ()


DEFAULT = Policy(version=1, rules=(Rule(name="default", parties=ALL, components=("secure_sum",)),))
"""Where a site has no policy.yaml: the job that verifies an installation, which reads no table, and nothing else."""

CLOSED = Policy(version=1)
"""Where the file was broken from the start: nothing."""
