"""What a deploy found and did: results for people and programs, no printing.

Owns the result types of every party and service, and the interface by which progress is told.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

from fedparty.deploy.health import HEALTHY, Reading
from fedparty.errors import FedpartyError

STOPPED = "stopped"
UNSUPERVISED = "unsupervised"
"""Processes are there, but what starts them again is not; the next deploy replaces them."""
NOT_DEPLOYED = "not deployed"
CHECKED = "bundle ok"


@dataclass(frozen=True)
class ServiceState:
    """One service of one party.

    Attributes
    ----------
    state
        ``healthy``, ``waiting``, ``down``, ``stopped``, ``unsupervised`` or ``not deployed``.
    detail
        Why it is not healthy.
    log_tail
        The last lines of its log; filled where it failed.
    role
        ``leader`` or ``standby``, of a party with several job servers.
    """

    service: str
    state: str
    address: str = ""
    detail: str = ""
    pid: int = 0
    started: int = 0
    log_tail: str = ""
    role: str = ""

    def with_log(self, log_tail: str) -> ServiceState:
        """Return this with the last lines of its log."""
        return replace(self, log_tail=log_tail)

    def updated(self, reading: Reading) -> ServiceState:
        """Return this with what was read."""
        return replace(
            self,
            state=reading.state,
            detail=reading.detail,
            pid=reading.pid,
            started=reading.started,
            role=reading.role,
        )


@dataclass(frozen=True)
class PartyResult:
    """What became of one party.

    Attributes
    ----------
    error
        What went wrong; None: nothing did.
    sum
        What its own toy job computed; None: it was not verified.
    entry
        Words before a program's that run it in the party.
    plan
        What a deploy would change and run, or what was changed, for people.
    recovery
        What was done after the error, for people.
    """

    party: str
    services: tuple[ServiceState, ...] = ()
    error: FedpartyError | None = None
    sum: float | None = None
    rest_url: str | None = None
    logs: str = ""
    entry: tuple[str, ...] = ()
    plan: tuple[str, ...] = ()
    recovery: str = ""

    @property
    def is_healthy(self) -> bool:
        """Whether every service was seen healthy."""
        return bool(self.services) and all(service.state == HEALTHY for service in self.services)


@dataclass(frozen=True)
class Report:
    """What became of all asked parties.

    Attributes
    ----------
    sum
        What the job over all asked parties computed; None: it did not run.
    error
        What went wrong with that job.
    notes
        What else to know, e.g. parties that were not asked.
    """

    parties: tuple[PartyResult, ...]
    sum: float | None = None
    error: FedpartyError | None = None
    notes: tuple[str, ...] = ()

    @property
    def is_success(self) -> bool:
        """The truth behind the exit code."""
        return self.error is None and all(result.error is None for result in self.parties)

    def to_json(self) -> dict[str, Any]:
        """Return this for programs."""
        parties = [
            {**asdict(replace(result, error=None)), "error": _text(result.error), "healthy": result.is_healthy}
            for result in self.parties
        ]
        return {
            "success": self.is_success,
            "sum": self.sum,
            "error": _text(self.error),
            "notes": list(self.notes),
            "parties": parties,
        }


def _text(error: FedpartyError | None) -> dict[str, str] | None:
    return None if error is None else {"error": error.message, "hint": error.hint}


class Progress(Protocol):
    """Is told what happens, while it happens."""

    def step(self, party: str, text: str) -> None:
        """A party reached a named step; ``party`` may be several, or empty for all."""

    def service(self, party: str, service: str, state: str, detail: str) -> None:
        """A service changed its state."""


class Silence:
    """`Progress` that nobody watches."""

    def step(self, party: str, text: str) -> None:
        """See `Progress.step`."""

    def service(self, party: str, service: str, state: str, detail: str) -> None:
        """See `Progress.service`."""


def join_parties(parties: Iterable[str]) -> str:
    """Return party ids as people read them."""
    return ", ".join(parties)
