"""What is broken, from what was seen at all parties: each cause once, with all who met it.

Owns the rules. Pure: it asks nobody. Causes come first: what does not run, then services, then checks; a way that fails
is a finding of its own only where none of these explains it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from fedparty.deploy.doctor.asking import PROBE
from fedparty.deploy.doctor.findings import FAIL, NOT_RUNNING, Case, Finding, Way
from fedparty.deploy.health import DOWN, HEALTHY, WAITING
from fedparty.deploy.report import NOT_DEPLOYED, STOPPED, UNSUPERVISED, ServiceState
from fedparty.pki import trust
from fedparty.pki.trust import Refusal
from fedparty.types import EXCHANGE, party_uri

MACHINE, TLS_CERTIFICATE = "machine", "tls certificate"
"""The checks that a machine is reached, and of what a proxy shows."""

_HOPS: Mapping[str, str] = MappingProxyType(
    {
        "federation": "mailbox",
        "flow-2": "flow",
        "mysql": "database",
        TLS_CERTIFICATE: "tls",
        "signing certificate": "token",
        "proxy secret": "token",
    }
)
"""Service or check: the hop that it is; the others are their own."""

_EXPLAINED_BY: Mapping[str, tuple[tuple[str, str], ...]] = MappingProxyType(
    {
        "proxy": (("own", "proxy"), ("own", NOT_RUNNING)),
        "route": (("peer", "tls"),),
        "tcp": (("peer", NOT_RUNNING), ("peer", "proxy"), ("peer", MACHINE)),
        "tls": (("peer", "tls"), ("own", "tls"), ("peer", "clock"), ("own", "clock"), ("peer", "proxy")),
        "token": (("peer", "token"), ("peer", "clock"), ("own", "clock")),
        "flow": (("peer", "flow"), ("peer", "database"), ("peer", NOT_RUNNING)),
        "silence": (
            ("own", "proxy"), ("exchange", "proxy"), ("exchange", NOT_RUNNING), ("exchange", MACHINE),
            ("peer", NOT_RUNNING), ("peer", "proxy"), ("peer", "flow"), ("peer", "database"), ("peer", MACHINE),
        ),
    }
)  # fmt: skip
"""Hop of a way that failed: whose finding of which hop is its cause, the first that there is."""


def diagnose(
    federation: str, cases: Sequence[Case], *, now: Mapping[str, float], has_exchange: bool
) -> tuple[Finding, ...]:
    """Return what is broken.

    Parameters
    ----------
    federation
        Its name.
    cases
        What was seen of each party that was examined.
    now
        The time by each party's clock, seconds since the epoch.
    """
    diagnosis = _Diagnosis(federation, {case.party: case for case in cases}, now, has_exchange=has_exchange)
    for case in cases:
        diagnosis.look_at_services(case)
    for case in cases:
        diagnosis.look_at_checks(case)
    for case in cases:
        for way in case.ways:
            if not way.is_reachable:
                diagnosis.look_at_way(way)
    return diagnosis.findings


def unexplained_refusals(cases: Iterable[Case]) -> set[str]:
    """Return the parties whose proxy's log may say why it refused another one."""
    return {way.receiver for case in cases for way in case.ways if way.hop == "tls" and way.at == "peer"}


class _Diagnosis:
    def __init__(
        self, federation: str, cases: Mapping[str, Case], now: Mapping[str, float], *, has_exchange: bool
    ) -> None:
        self._federation = federation
        self._cases = cases
        self._now = now
        self._has_exchange = has_exchange
        self._found: dict[tuple[str, str, str], Finding] = {}

    @property
    def findings(self) -> tuple[Finding, ...]:
        return tuple(self._found.values())

    def look_at_services(self, case: Case) -> None:
        ill = [each for each in case.services if each.state != HEALTHY]
        states = {each.state for each in ill}
        if ill and not case.is_running:
            what = f"{_name(case.party)} does not run: {NOT_DEPLOYED if states == {NOT_DEPLOYED} else STOPPED}"
            self._add(NOT_RUNNING, case.party, (), what, _deploy(case.party))
        elif UNSUPERVISED in states:
            what = f"{_name(case.party)}: what starts its services again is gone"
            self._add("supervisor", case.party, (case.party,), what, _deploy(case.party))
        else:
            for service in [each for each in ill if each.state != WAITING] or ill:
                self._add_service(case, service)

    def _add_service(self, case: Case, service: ServiceState) -> None:
        what = f"{_name(case.party)}'s {service.service} is {service.state}: {service.detail}".removesuffix(": ")
        hop = _HOPS.get(service.service, service.service)
        self._add(hop, case.party, (case.party,), what, _revive(case.party, service))

    def look_at_checks(self, case: Case) -> None:
        """Take over what failed, unless it is what a service's finding says already."""
        for check in case.checks:
            if check.state != FAIL:
                continue
            hop = _HOPS.get(check.name, check.name)
            known = self._first([(case.party, hop), *self._causes_of_check(case.party, check.name)])
            if known:
                self._seen(known, case.party)
            else:
                what = f"{_name(case.party)}: {check.name}: {check.detail}"
                self._add(hop, case.party, (case.party,), what, check.remedy)

    @staticmethod
    def _causes_of_check(party: str, name: str) -> list[tuple[str, str]]:
        return [(party, hop) for hop in ("flow", NOT_RUNNING)] if name == PROBE else []

    def look_at_way(self, way: Way) -> None:
        cause = self._first((self._whose(way, at), hop) for at, hop in self._explanations(way))
        if cause:
            self._seen(cause, way.sender)
        else:
            self._add_way(way)

    def _explanations(self, way: Way) -> Iterable[tuple[str, str]]:
        if way.at == "exchange":
            return (("exchange", NOT_RUNNING), ("exchange", "proxy"), ("exchange", MACHINE))
        return _EXPLAINED_BY.get(way.hop, ())

    def _add_way(self, way: Way) -> None:
        if way.hop == "tls":
            self._add_refusal(way)
        elif way.hop in ("tcp", "silence"):
            self._add_unconnected(way)
        else:
            at = self._whose(way, way.at)
            what = f"{way.sender} -> {way.receiver}: {way.detail}"
            self._add(way.hop, at, (way.sender,), what, _remedy(way, at), way.receiver)

    def _add_unconnected(self, way: Way) -> None:
        """Say whether nobody listens, another port is dialled, or the line between the two is closed."""
        receiver, at = way.receiver, self._whose(way, way.at)
        dialled, listens = way.address.rpartition(":")[2], self._port_of(at)
        if way.at == "peer" and dialled and listens and not self._has_exchange and int(dialled) != listens:
            what = f"party {way.sender}'s proxy dials {way.address}, party {receiver}'s listens on port {listens}"
            self._add("tcp", way.sender, (way.sender,), what, _again(way.sender), receiver)
            return
        if way.hop == "silence" and not self._works_alone(receiver) and not self._is_behind_exchange(receiver):
            what = f"{way.sender} -> {receiver}: {way.detail}; nothing is known of {receiver} itself"
            remedy = f"Examine {receiver}: python deploy.py doctor {receiver}; in its home: fedparty probe"
            self._add("silence", receiver, (way.sender,), what, remedy)
            return
        if self._is_line_cut(way):
            self._add_cut_line(way)
            return
        what = f"{way.sender} -> {receiver}: {way.detail}{self._other_sides(way)}"
        port = f"{listens or dialled or 'the proxy port'}/tcp"
        who = "the exchange" if self._has_exchange and at == receiver else f"party {way.sender}"
        remedy = f"Open port {port} in the firewall of {_name(at)} for {who}; see that its address is right."
        self._add("tcp", at, (way.sender,), what, remedy)

    def _is_behind_exchange(self, receiver: str) -> bool:
        """Tell whether the exchange brings others to themselves and not to this party, which runs."""
        case = self._cases.get(receiver)
        others = [party for party in self._cases if party not in (receiver, EXCHANGE)]
        return self._has_exchange and case is not None and case.is_running and any(map(self._works_alone, others))

    def _is_line_cut(self, way: Way) -> bool:
        """Tell whether neither of two parties reaches the other, while each one reaches itself."""
        back = self._way(way.receiver, way.sender)
        is_mutual = back is not None and back.hop in ("tcp", "silence")
        return (
            is_mutual and not self._has_exchange and self._works_alone(way.sender) and self._works_alone(way.receiver)
        )

    def _add_cut_line(self, way: Way) -> None:
        one, other = ends = sorted((way.sender, way.receiver))
        what = f"{one} and {other} do not reach each other, while the proxy of each answers itself: {way.detail}"
        ports = " and ".join(f"{self._port_of(end) or 'the proxy port'}/tcp at party {end}" for end in ends)
        remedy = f"See that the network between the two machines is up; open {ports} for the other one."
        self._add("tcp", ", ".join(ends), (way.sender,), what, remedy)

    def _other_sides(self, way: Way) -> str:
        """Return what the receiver's own ways say of the line."""
        said = []
        if self._works_alone(way.receiver):
            said.append(f"{way.receiver}'s proxy answers {way.receiver} itself")
        back = self._way(way.receiver, way.sender)
        if back is not None and back.is_reachable and way.sender != way.receiver:
            said.append(f"{way.receiver} -> {way.sender} works")
        return f" ({', '.join(said)})" if said else ""

    def _add_refusal(self, way: Way) -> None:
        for judge, shown in ((way.sender, way.receiver), (way.receiver, way.sender)):
            refusal = self._refusal(judge, shown)
            if refusal is not None:
                at = judge if refusal.is_judges_fault or refusal.kind == trust.NOT_YET_VALID else shown
                what = f"party {judge}'s proxy refuses party {shown}'s: {refusal.text}"
                self._add("tls", at, (way.sender,), what, _tls_remedy(refusal, at), refusal.kind)
                return
        peer = self._cases.get(way.receiver)
        said = ((peer.refusals if peer else None) or {}).get(party_uri(self._federation, way.sender), "")
        what = f"{way.sender} -> {way.receiver}: {way.detail}" + (f"; the other proxy's log: {said}" if said else "")
        self._add("tls", way.receiver, (way.sender,), what, way.remedy)

    def _refusal(self, judge: str, shown: str) -> Refusal | None:
        trusting, trusted = self._cases.get(judge), self._cases.get(shown)
        if trusting is None or trusted is None or trusting.trust is None or trusted.trust is None:
            return None
        uri = party_uri(self._federation, shown)
        return trusting.trust.why_refused(trusted.trust, uri, self._now[judge])

    def _works_alone(self, party: str) -> bool:
        way = self._way(party, party)
        return way is not None and way.is_reachable

    def _way(self, sender: str, receiver: str) -> Way | None:
        case = self._cases.get(sender)
        return next((way for way in case.ways if way.receiver == receiver), None) if case else None

    def _port_of(self, party: str) -> int | None:
        case = self._cases.get(party)
        return case.proxy_port if case else None

    @staticmethod
    def _whose(way: Way, at: str) -> str:
        return {"own": way.sender, "exchange": EXCHANGE}.get(at, way.receiver)

    def _first(self, wanted: Iterable[tuple[str, str]]) -> tuple[str, str, str] | None:
        """Return the key of the first finding that is at that party, of that hop."""
        for at, hop in wanted:
            for key in self._found:
                if key[:2] == (at, hop):
                    return key
        return None

    def _seen(self, key: tuple[str, str, str], party: str) -> None:
        known = self._found[key]
        if party not in known.seen_from:
            self._found[key] = replace(known, seen_from=(*known.seen_from, party))

    def _add(self, hop: str, at: str, seen_from: tuple[str, ...], what: str, remedy: str, subject: str = "") -> None:
        """Add a finding, or who met it to the one of the same hop, place and subject."""
        key = (at, hop, subject)
        self._found.setdefault(key, Finding(hop, at, (), what, remedy))
        for party in seen_from:
            self._seen(key, party)


def _name(party: str) -> str:
    return "the exchange" if party == EXCHANGE else f"party {party}"


def _deploy(party: str) -> str:
    return f"python deploy.py {party}"


def _revive(party: str, service: ServiceState) -> str:
    """Return how a service comes back: one that hangs is not started anew by a deploy, for it runs."""
    why = f"See why: python deploy.py logs {party} {service.service}"
    if service.state == DOWN and service.pid:
        return f"{why}; start it anew (its data stay): {_deploy(party)} --delete && {_deploy(party)}"
    return f"{why}; start it: {_deploy(party)}"


def _remedy(way: Way, at: str) -> str:
    if way.hop == "dns":
        return f"Correct the party's address in parties.conf (or add extra_hosts): {_again(at)}"
    return _again(at) if way.hop in ("route", "token") else way.remedy


def _again(party: str) -> str:
    return f"python generate_config.py && {_deploy(party)}"


def _tls_remedy(refusal: Refusal, at: str) -> str:
    if refusal.kind == trust.NOT_YET_VALID:
        return f"Set the clock of {_name(at)}'s machine: sudo timedatectl set-ntp true"
    if refusal.kind in (trust.EXPIRED, trust.REVOKED):
        return f"fedparty pki renew {at} && {_deploy(at)}"
    return _again(at)
