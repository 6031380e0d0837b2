"""The words of the domain: parties, roles, jobs, attempts, object names, secrets.

Owns identifiers and their spelling (file names, URIs, host names). Owns no behaviour beyond that.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NewType

PartyId = NewType("PartyId", str)
"""Decimal digits without a leading zero, 1 to 9 of them, e.g. ``10000``."""

JobId = NewType("JobId", str)
"""``<initiator>-<ulid>``, e.g. ``10000-01JD3M…``; see `initiator_of`."""

PARTY_ID = re.compile(r"[1-9][0-9]{0,8}")
JOB_ID = re.compile(r"([1-9][0-9]{0,8})-[0-9A-HJKMNP-TV-Z]{26}")
ROLE = re.compile(r"[a-z][a-z0-9_]{0,31}")
TASK_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")

EXCHANGE = "exchange"
"""What stands in a party id's place for the exchange (bundle names, commands)."""


def parse_party_id(text: str) -> PartyId:
    """Return `text` as a party id.

    Raises
    ------
    ValueError
        `text` is not 1 to 9 digits without a leading zero.
    """
    if not PARTY_ID.fullmatch(text):
        raise ValueError(f"{text!r} is not a party id (1 to 9 digits, no leading zero)")
    return PartyId(text)


def parse_job_id(text: str) -> JobId:
    """Return `text` as a job id.

    Raises
    ------
    ValueError
        `text` is not ``<party id>-<ulid>``.
    """
    if not JOB_ID.fullmatch(text):
        raise ValueError(f"{text!r} is not a job id (<party id>-<ulid>)")
    return JobId(text)


def initiator_of(job: JobId) -> PartyId:
    """Return the party that may open this job."""
    return PartyId(job.partition("-")[0])


def party_uri(federation: str, party: str) -> str:
    """Return the URI SAN that identifies `party` (or `EXCHANGE`) in a certificate (SPIFFE ID §2)."""
    return f"spiffe://{federation}.internal/party/{party}"


def party_of_uri(federation: str, uri: str) -> PartyId:
    """Return the party named by a certificate's URI SAN.

    Raises
    ------
    ValueError
        `uri` is not exactly one party of `federation`.
    """
    prefix = party_uri(federation, "")
    if not uri.startswith(prefix):
        raise ValueError(f"{uri!r} is not a party of the federation {federation!r}")
    return parse_party_id(uri.removeprefix(prefix))


def party_host_name(federation: str, party: PartyId) -> str:
    """Return the DNS SAN and SNI of a party's proxy; never resolved by DNS."""
    return f"p{party}.{federation}.internal"


@dataclass(frozen=True, order=True)
class Member:
    """One role played by one party in a job; guest and host may be the same party."""

    role: str
    party: PartyId

    def __str__(self) -> str:
        return f"{self.role}:{self.party}"

    @classmethod
    def parse(cls, text: str) -> Member:
        """Read ``role:party``.

        Raises
        ------
        ValueError
            Either half is malformed.
        """
        role, _, party = text.partition(":")
        if not ROLE.fullmatch(role):
            raise ValueError(f"{role!r} is not a role (lower-case letters, digits, underscore)")
        return cls(role, parse_party_id(party))


@dataclass(frozen=True, order=True)
class TaskRun:
    """One attempt of one task of one job: what fencing compares."""

    job: JobId
    task: str
    attempt: int

    def __str__(self) -> str:
        return f"{self.job}/{self.task}#{self.attempt}"


@dataclass(frozen=True, order=True)
class ObjectName:
    """What identifies an object that one member sends to another."""

    run: TaskRun
    tag: str
    sender: Member
    receiver: Member

    def __str__(self) -> str:
        return f"{self.run} {self.tag!r} from {self.sender} to {self.receiver}"


class Secret:
    """A string that prints ``***``.

    Parameters
    ----------
    value
        The secret; read it with `reveal` where it is used.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the secret itself."""
        return self._value

    def __repr__(self) -> str:
        return "Secret('***')"

    def __str__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)
