"""What an examination found: for people and programs, no printing.

Owns the shape of the result, which `docs/doctor.md` describes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from fedparty.deploy.report import ServiceState
from fedparty.pki.trust import ProxyTrust
from fedparty.types import EXCHANGE

OK, WARN, FAIL = "ok", "warn", "fail"

NOT_RUNNING = "party"
"""The hop of a party of which nothing runs."""

NOT_ASKED = "not asked"
"""Stands for the hop where the sender of a way could not be asked."""


@dataclass(frozen=True)
class Check:
    """One thing of a party or its machine that was looked at.

    Attributes
    ----------
    state
        ``ok``, ``warn`` or ``fail``.
    remedy
        What to do; empty where nothing is to be done.
    """

    name: str
    state: str
    detail: str
    remedy: str = ""


@dataclass(frozen=True)
class Way:
    """The way from one party to another, or to itself, as the sender measured it.

    Attributes
    ----------
    latency_ms, throughput_mib_s
        None: not reached, or not measured.
    hop, at, address, detail, remedy
        Where and why it failed, in the words of `fedparty probe`; ``at`` is ``own``, ``exchange`` or ``peer``.
    """

    sender: str
    receiver: str
    latency_ms: float | None = None
    throughput_mib_s: float | None = None
    hop: str = ""
    at: str = ""
    address: str = ""
    detail: str = ""
    remedy: str = ""

    @property
    def is_reachable(self) -> bool:
        """Whether nothing failed on the way."""
        return not self.hop


@dataclass(frozen=True)
class Case:
    """One party, or the exchange, and all that was seen of it.

    Attributes
    ----------
    place, engine
        Its machine, and what runs it there.
    is_running
        Whether anything of it runs.
    proxy_port
        Where its proxy listens; None: not known.
    trust
        What its proxy shows and whom it trusts; None: not known.
    refusals
        Why its proxy refused handshakes lately, by the peer's URI; read only where that is asked.
    """

    party: str
    place: str
    engine: str
    is_running: bool = False
    services: tuple[ServiceState, ...] = ()
    checks: tuple[Check, ...] = ()
    ways: tuple[Way, ...] = ()
    proxy_port: int | None = None
    trust: ProxyTrust | None = None
    refusals: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Finding:
    """One thing that is broken.

    Attributes
    ----------
    hop
        Which: ``dns``, ``tcp``, ``tls``, ``route``, ``proxy``, ``flow``, ``mailbox``, ``database``…
    at
        The party, or ``exchange``, where it is to be mended; ``A, B`` where it is the line between two.
    seen_from
        Who met it.
    what, remedy
        In words; what to do.
    """

    hop: str
    at: str
    seen_from: tuple[str, ...]
    what: str
    remedy: str


@dataclass(frozen=True)
class Examination:
    """Everything that was seen, and what follows from it."""

    cases: tuple[Case, ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()

    @property
    def is_healthy(self) -> bool:
        """The truth behind the exit code."""
        return not self.findings

    @property
    def matrix(self) -> tuple[Way, ...]:
        """Every way that was measured, or that could not be because its sender could not be asked."""
        names = [case.party for case in self.cases if case.party != EXCHANGE]
        unmeasured = [
            Way(case.party, name, hop=NOT_ASKED, at="own", detail=f"party {case.party} could not be asked")
            for case in self.cases
            if case.party != EXCHANGE and not case.ways
            for name in names
        ]
        return (*(way for case in self.cases for way in case.ways), *unmeasured)

    def to_json(self) -> dict[str, Any]:
        """Return this for programs."""
        return {
            "healthy": self.is_healthy,
            "parties": [_case_to_json(case) for case in self.cases],
            "matrix": [_way_to_json(way) for way in self.matrix],
            "findings": [{**asdict(finding), "seen_from": list(finding.seen_from)} for finding in self.findings],
            "notes": list(self.notes),
        }


def _case_to_json(case: Case) -> dict[str, Any]:
    return {
        "party": case.party,
        "place": case.place,
        "engine": case.engine,
        "running": case.is_running,
        "services": [{"service": each.service, "state": each.state, "detail": each.detail} for each in case.services],
        "checks": [asdict(check) for check in case.checks],
    }


def _way_to_json(way: Way) -> dict[str, Any]:
    return {
        "from": way.sender,
        "to": way.receiver,
        "reachable": way.is_reachable,
        "latency_ms": way.latency_ms,
        "throughput_mib_s": way.throughput_mib_s,
        "hop": way.hop,
        "detail": way.detail,
    }
