"""What a policy says of a job: for each task and each role that the site would play, which rule allows it, or why none.

Owns deciding, as a pure function. Does not own the policy's file, nor what follows from a decision.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from fedparty.components.requirements import Requirements, Reveals
from fedparty.flow.policy.model import ALL, Policy, Rule
from fedparty.jobs import code
from fedparty.jobs.description import JobDescription
from fedparty.types import Member, PartyId


@dataclass(frozen=True)
class Submission:
    """Who submitted a job.

    Parameters
    ----------
    party
        The initiator.
    user, user_role
        As that party vouches; empty: it does not say, so only rules for all users fit.
    is_signed
        Whether the user's own signature was verified.
    """

    party: PartyId
    user: str = ""
    user_role: str = ""
    is_signed: bool = False

    def __str__(self) -> str:
        return f"{self.user or 'somebody'}@{self.party}"


@dataclass(frozen=True)
class Decision:
    """What becomes of one role of one task.

    Parameters
    ----------
    rule
        The rule that allows it; None: it is refused.
    why
        The rule's name, or what is missing.
    """

    task: str
    role: str
    component: str
    rule: Rule | None
    why: str

    @property
    def is_allowed(self) -> bool:
        """Whether the site plays this role."""
        return self.rule is not None


Needs = Callable[[str, Mapping[str, Any]], Requirements]
"""Returns what a component will read and reveal with some parameters."""


def decide(
    policy: Policy, site: PartyId, job: JobDescription, by: Submission, needs: Needs, shown: str = ""
) -> tuple[Decision, ...]:
    """Return a decision for every task and every role that `site` would play in it.

    Parameters
    ----------
    shown
        ``logs`` or ``metrics``: whether the people of the party that submitted may see these, too.
    """
    digest = job.code.sha256 if job.code else ""

    def decision(name: str, member: Member) -> Decision:
        component = job.tasks[name].component
        own = digest if code.is_custom(component) else ""
        needed = needs(component, job.parameters_of(name, member))
        return _decide(policy, by, Decision(name, member.role, component, None, ""), needed, own, shown)

    return tuple(decision(name, member) for name in job.tasks for member in job.members_at(site))


def _decide(policy: Policy, by: Submission, asked: Decision, needs: Requirements, digest: str, shown: str) -> Decision:
    if policy.signed and not by.is_signed:
        return replace(asked, why="this site takes submissions with the user's own signature only")
    fewest, nearest = math.inf, ""
    reading = f" over {', '.join(needs.tables)}" if needs.tables else ""
    own = f" (the job's own code, SHA-256 {digest})" if digest else ""
    allows = f"shows {shown} of" if shown else "allows"
    why = f"no rule {allows} component {asked.component}{own}{reading} in role {asked.role} to {by}"
    for rule in policy.rules:
        lacks = (*_missing(rule, by, asked.role, asked.component), *_untrusted(rule, digest))
        missing = (*lacks, *_unread(rule, needs), *_unshown(rule, shown))
        if not missing:
            return replace(asked, rule=rule, why=f"rule {rule.name!r}{own}")
        if len(missing) < fewest:
            fewest = len(missing)
            nearest = f"; the nearest rule, {rule.name!r}, is not for {' nor for '.join(missing)}"
    return replace(asked, why=why + nearest)


def _missing(rule: Rule, by: Submission, role: str, component: str) -> Iterator[str]:
    """Yield what a rule is not for; nothing: it fits."""
    if not _has(rule.parties, by.party):
        yield f"party {by.party}"
    if not _has(rule.users, by.user):
        yield f"user {by.user or 'unknown'}"
    if not _has(rule.user_roles, by.user_role):
        yield f"a {by.user_role or 'user of unknown role'}"
    if not _has(rule.roles, role):
        yield f"role {role}"
    if not _has(rule.components, component):
        yield f"component {component}"
    if rule.signed and not by.is_signed:
        yield "a submission without the user's signature"


def _untrusted(rule: Rule, digest: str) -> Iterator[str]:
    """Yield that a rule is not for the job's own code."""
    if digest and not (rule.custom is True or (isinstance(rule.custom, tuple) and _has(rule.custom, digest))):
        yield "a job's own code" if rule.custom is False else "that code"


def _unread(rule: Rule, needs: Requirements) -> Iterator[str]:
    """Yield what a rule does not let a task do with tables."""
    for table in needs.tables:
        if not _has(rule.tables, table):
            yield f"table {table}"
    if needs.tables and needs.reveals in (Reveals.INDIVIDUAL, Reveals.UNKNOWN) and rule.reveals != "individual":
        yield "values of single rows" if needs.reveals is Reveals.INDIVIDUAL else "a component that may reveal anything"
    if needs.tables and needs.min_group < rule.min_group:
        yield f"groups of fewer than {rule.min_group} rows"


def _unshown(rule: Rule, shown: str) -> Iterator[str]:
    """Yield what a rule does not let the submitting party's people see."""
    if shown and not _has(rule.shows, shown):
        yield f"showing {shown}"


def _has(allowed: tuple[str, ...], value: str) -> bool:
    return allowed == ALL or (value != "" and value in allowed)
