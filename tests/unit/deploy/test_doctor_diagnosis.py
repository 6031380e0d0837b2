"""What follows from what was seen: each cause once, at its hop, with all who met it and the remedy."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from proxy_certificates import DAY, CertificateMaker, Leaf

from fedparty.deploy.doctor.diagnosis import diagnose, unexplained_refusals
from fedparty.deploy.doctor.findings import FAIL, OK, WARN, Case, Check, Examination, Finding, Way
from fedparty.deploy.health import DOWN, HEALTHY, WAITING
from fedparty.deploy.report import NOT_DEPLOYED, STOPPED, UNSUPERVISED, ServiceState
from fedparty.pki.trust import ProxyTrust, read_trust
from fedparty.types import EXCHANGE, PartyId, party_host_name, party_uri

NOW = datetime.now(UTC).timestamp()
PARTIES = ("10000", "9999", "9998")
SERVICES = ("proxy", "federation", "flow", "worker")


def case(party: str, **more: object) -> Case:
    """Return a party that is well and reaches everybody."""
    known = {
        "is_running": True,
        "services": tuple(ServiceState(service, HEALTHY) for service in SERVICES),
        "ways": tuple(Way(party, other, latency_ms=1.0, throughput_mib_s=100.0) for other in PARTIES),
        "proxy_port": 9370,
        **more,
    }
    return Case(party, "this machine", "process", **known)  # type: ignore[arg-type]


def ill(party: str, service: str, state: str, detail: str = "", *, pid: int = 0) -> Case:
    states = tuple(
        ServiceState(each, state, detail=detail, pid=pid) if each == service else ServiceState(each, HEALTHY)
        for each in SERVICES
    )
    return case(party, services=states)


def failing(found: Case, receiver: str, hop: str, at: str = "peer", detail: str = "why", address: str = "") -> Case:
    """Return a party from which the way to another one fails."""
    bad = Way(found.party, receiver, hop=hop, at=at, detail=detail, address=address, remedy="the catalogue's")
    return replace(found, ways=tuple(bad if way.receiver == receiver else way for way in found.ways))


def found(*cases: Case, has_exchange: bool = False) -> tuple[Finding, ...]:
    others = [case(party) for party in PARTIES if party not in [each.party for each in cases]]
    now = {each.party: NOW for each in (*cases, *others)}
    return diagnose("lab", [*cases, *others], now=now, has_exchange=has_exchange)


def only(*cases: Case, has_exchange: bool = False) -> Finding:
    findings = found(*cases, has_exchange=has_exchange)
    assert len(findings) == 1, findings
    return findings[0]


def test_a_healthy_federation_has_no_finding() -> None:
    assert found() == ()


def test_a_warning_is_no_finding() -> None:
    assert found(case("9999", checks=(Check("memory", WARN, "little"), Check("clock", OK, "right")))) == ()


@pytest.mark.parametrize(
    ("service", "hop", "met"), [("proxy", "tcp", "proxy"), ("flow", "flow", "flow"), ("proxy", "silence", "proxy")]
)
def test_a_service_that_is_down_explains_the_ways_to_its_party(service: str, hop: str, met: str) -> None:
    seen = only(
        ill("9999", service, DOWN, "does not answer"),
        failing(case("10000"), "9999", hop),
        failing(case("9998"), "9999", hop),
    )
    assert (seen.hop, seen.at, seen.seen_from) == (met, "9999", ("9999", "10000", "9998"))
    assert seen.what == f"party 9999's {service} is down: does not answer"
    assert seen.remedy == f"See why: python deploy.py logs 9999 {service}; start it: python deploy.py 9999"


def test_a_service_that_hangs_is_to_be_stopped_first() -> None:
    assert only(ill("9999", "flow", DOWN, "does not answer", pid=4711)).remedy.endswith(
        "python deploy.py 9999 --delete && python deploy.py 9999"
    )


def test_who_waits_for_a_service_that_is_down_is_no_cause() -> None:
    services = (
        ServiceState("proxy", HEALTHY),
        ServiceState("federation", DOWN),
        ServiceState("flow", WAITING, detail="mailbox: does not answer"),
    )
    seen = only(case("9999", services=services, checks=(Check("mailbox", FAIL, "no answer"),)))
    assert (seen.hop, seen.seen_from) == ("mailbox", ("9999",))


@pytest.mark.parametrize("state", [STOPPED, NOT_DEPLOYED])
def test_a_party_that_does_not_run_is_one_finding(state: str) -> None:
    gone = case("9999", is_running=False, ways=(), services=tuple(ServiceState(each, state) for each in SERVICES))
    seen = only(gone, failing(case("10000"), "9999", "tcp"))
    assert (seen.hop, seen.at, seen.seen_from) == ("party", "9999", ("10000",))
    assert seen.what == f"party 9999 does not run: {state}"
    assert seen.remedy == "python deploy.py 9999"


def test_a_lost_supervisor_is_one_finding() -> None:
    lost = case("9999", services=tuple(ServiceState(each, UNSUPERVISED) for each in SERVICES))
    assert (only(lost).hop, only(lost).remedy) == ("supervisor", "python deploy.py 9999")


def test_a_machine_that_is_not_reached_explains_the_ways_to_it() -> None:
    away = case("9999", is_running=False, services=(), ways=(), checks=(Check("machine", FAIL, "no route to host"),))
    seen = only(away, failing(case("10000"), "9999", "silence"))
    assert (seen.hop, seen.at, seen.seen_from) == ("machine", "9999", ("9999", "10000"))


def test_a_failed_check_is_a_finding_with_its_remedy() -> None:
    seen = only(case("9999", checks=(Check("disk", FAIL, "12 MiB are free", "Make room."),)))
    assert (seen.hop, seen.at, seen.remedy) == ("disk", "9999", "Make room.")
    assert seen.what == "party 9999: disk: 12 MiB are free"


def test_a_probe_that_could_not_run_is_no_more_than_the_flow_that_is_down() -> None:
    down = replace(ill("9999", "flow", DOWN), checks=(Check("probe", FAIL, "no such container"),), ways=())
    assert only(down).hop == "flow"


def test_another_port_than_the_peers_is_the_senders_to_mend() -> None:
    seen = only(failing(case("10000"), "9999", "tcp", address="10.0.0.2:9371"))
    assert (seen.hop, seen.at) == ("tcp", "10000")
    assert seen.what == "party 10000's proxy dials 10.0.0.2:9371, party 9999's listens on port 9370"
    assert seen.remedy == "python generate_config.py && python deploy.py 10000"


def test_a_closed_port_is_told_from_both_sides() -> None:
    seen = only(failing(case("10000"), "9999", "tcp", address="10.0.0.2:9370", detail="refused"))
    assert (seen.hop, seen.at, seen.seen_from) == ("tcp", "9999", ("10000",))
    assert seen.what == "10000 -> 9999: refused (9999's proxy answers 9999 itself, 9999 -> 10000 works)"
    assert seen.remedy.startswith("Open port 9370/tcp in the firewall of party 9999 for party 10000")


def test_silence_is_a_dropped_connection_where_the_receiver_reaches_itself() -> None:
    assert only(failing(case("10000"), "9999", "silence")).hop == "tcp"


@pytest.mark.parametrize("hop", ["tcp", "silence"])
def test_a_line_that_is_cut_is_one_finding(hop: str) -> None:
    seen = only(failing(case("10000"), "9999", hop), failing(case("9999"), "10000", hop))
    assert (seen.hop, seen.at, seen.seen_from) == ("tcp", "10000, 9999", ("10000", "9999"))
    assert seen.what == "10000 and 9999 do not reach each other, while the proxy of each answers itself: why"
    assert "9370/tcp at party 10000 and 9370/tcp at party 9999" in seen.remedy


def test_silence_of_a_party_that_was_not_examined_is_left_open() -> None:
    findings = diagnose("lab", [failing(case("10000"), "9999", "silence")], now={"10000": NOW}, has_exchange=False)
    assert [(each.hop, each.at) for each in findings] == [("silence", "9999")]
    assert "python deploy.py doctor 9999" in findings[0].remedy


def test_an_unknown_name_is_the_senders_to_mend() -> None:
    seen = only(failing(case("10000"), "9999", "dns", "own"))
    assert (seen.hop, seen.at) == ("dns", "10000")
    assert "parties.conf" in seen.remedy


@pytest.mark.parametrize("hop", ["route", "tcp", "silence"])
def test_an_exchange_that_is_down_explains_every_way(hop: str) -> None:
    exchange = Case("exchange", "there", "process", is_running=True, services=(ServiceState("proxy", DOWN),))
    met = [failing(case(party), "9999", hop, "exchange") for party in ("10000", "9998")]
    seen = only(exchange, *met, has_exchange=True)
    assert (seen.hop, seen.at, seen.seen_from) == ("proxy", "exchange", ("exchange", "10000", "9998"))


def test_a_way_that_ends_behind_the_exchange_is_the_receivers() -> None:
    exchange = Case("exchange", "there", "process", is_running=True, services=(ServiceState("proxy", HEALTHY),))
    seen = only(exchange, failing(case("10000"), "9999", "tcp", address="10.0.0.9:9371"), has_exchange=True)
    assert (seen.hop, seen.at) == ("tcp", "9999")
    assert "for the exchange" in seen.remedy


def test_a_way_that_ends_before_the_exchange_is_the_exchanges() -> None:
    exchange = Case("exchange", "there", "process", is_running=True, services=(ServiceState("proxy", HEALTHY),))
    exchange = replace(exchange, proxy_port=9371)
    seen = only(exchange, failing(case("10000"), "9999", "tcp", "exchange"), has_exchange=True)
    assert (seen.hop, seen.at) == ("tcp", "exchange")
    assert seen.remedy.startswith("Open port 9371/tcp in the firewall of the exchange for party 10000")


def test_a_refused_handshake_that_no_file_explains_is_read_from_the_others_log() -> None:
    met = failing(case("10000"), "9999", "tls", detail="closed unanswered")
    assert unexplained_refusals([met]) == {"9999"}
    told = case("9999", refusals={"spiffe://lab.internal/party/10000": "certificate has expired"})
    seen = only(met, told)
    assert (seen.hop, seen.at) == ("tls", "9999")
    assert seen.what == "10000 -> 9999: closed unanswered; the other proxy's log: certificate has expired"


def test_a_clock_explains_a_refused_certificate() -> None:
    wrong = case("9999", checks=(Check("clock", FAIL, "4000 s behind", "Set it."),))
    seen = only(wrong, failing(case("10000"), "9999", "tls"))
    assert (seen.hop, seen.at, seen.seen_from) == ("clock", "9999", ("9999", "10000"))


def test_several_who_meet_one_thing_are_one_finding() -> None:
    seen = only(failing(case("10000"), "9999", "version"), failing(case("9998"), "9999", "version"))
    assert (seen.hop, seen.at, seen.seen_from) == ("version", "9999", ("10000", "9998"))


def test_the_matrix_says_who_was_not_asked() -> None:
    silent = Case("9999", "there", "docker")
    examination = Examination((case("10000"), silent), ())
    cells = {(way.sender, way.receiver): way.hop for way in examination.matrix}
    assert cells["9999", "10000"] == cells["9999", "9999"] == "not asked"
    assert cells["10000", "9999"] == ""


def test_json_has_the_documented_shape() -> None:
    told = Examination((case("10000"),), (Finding("dns", "10000", ("10000",), "what", "remedy"),), ("note",)).to_json()
    assert set(told) == {"healthy", "parties", "matrix", "findings", "notes"}
    assert told["healthy"] is False
    assert set(told["parties"][0]) == {"party", "place", "engine", "running", "services", "checks"}
    keys = {"from", "to", "reachable", "latency_ms", "throughput_mib_s", "hop", "detail"}
    assert set(told["matrix"][0]) == keys
    assert told["findings"] == [
        {"hop": "dns", "at": "10000", "seen_from": ["10000"], "what": "what", "remedy": "remedy"}
    ]
    document = (Path(__file__).resolve().parents[3] / "docs/doctor.md").read_text()
    assert all(f'"{key}"' in document for key in (*told, *told["parties"][0], *keys, *told["findings"][0]))


def shows(maker: CertificateMaker, leaf: Leaf, *, crl: str | None = None) -> ProxyTrust:
    """Return what a proxy's two live files hold."""
    chain = {"certificate_chain": {"inline_string": leaf.certificate.decode()}}
    trusted = {"trusted_ca": {"inline_string": maker.ca_pem}, "crl": {"inline_string": crl or maker.crl_pem()}}
    return read_trust(
        json.dumps({"resources": [{"tls_certificate": chain}]}).encode(),
        json.dumps({"resources": [{"validation_context": trusted}]}).encode(),
    )


def names_of(party: str) -> tuple[list[str], list[str]]:
    return [party_uri("lab", party)], [party_host_name("lab", PartyId(party))]


def test_a_sound_certificate_is_accepted() -> None:
    maker = CertificateMaker()
    one, other = (shows(maker, maker.party(party)) for party in ("10000", "9999"))
    assert one.why_refused(other, party_uri("lab", "9999"), NOW) is None
    assert 0 < one.days_left(NOW) < 1.1


def refused(kind: str) -> tuple[ProxyTrust, ProxyTrust]:
    """Return what 10000's proxy shows and trusts, and what 9999's does, of which the first refuses the second."""
    maker = CertificateMaker()
    leaf = maker.party("9999")
    if kind == "expired":
        leaf = maker.leaf(*names_of("9999"), starts=-2 * DAY, ends=-DAY)
    elif kind == "not yet valid":
        leaf = maker.leaf(*names_of("9999"), starts=DAY, ends=2 * DAY)
    elif kind == "another CA":
        leaf = CertificateMaker().party("9999")
    elif kind == "revoked":
        maker.revoked.append(leaf.serial)
    elif kind == "wrong name":
        leaf = maker.party("9998")
    crl = maker.crl_pem(next_update=-DAY) if kind == "stale revocation list" else None
    return shows(maker, maker.party("10000"), crl=crl), shows(maker, leaf)


@pytest.mark.parametrize(
    ("kind", "at", "words", "remedy"),
    [
        ("expired", "9999", "expired at", "fedparty pki renew 9999 && python deploy.py 9999"),
        ("not yet valid", "10000", "is not valid before", "timedatectl"),
        ("another CA", "9999", "is of another federation's CA", "python generate_config.py && python deploy.py 9999"),
        ("revoked", "9999", "is revoked", "fedparty pki renew 9999 && python deploy.py 9999"),
        ("wrong name", "9999", "is not that of", "python generate_config.py && python deploy.py 9999"),
        ("stale revocation list", "10000", "too old", "python generate_config.py && python deploy.py 10000"),
    ],
)
@pytest.mark.parametrize("sender", ["10000", "9999"])
def test_a_refused_certificate_is_named_from_either_side(
    kind: str, at: str, words: str, remedy: str, sender: str
) -> None:
    judge, shown = refused(kind)
    parties = {"10000": case("10000", trust=judge), "9999": case("9999", trust=shown)}
    parties[sender] = failing(parties[sender], "9999" if sender == "10000" else "10000", "tls")
    seen = only(*parties.values())
    assert (seen.hop, seen.at, seen.seen_from) == ("tls", at, (sender,))
    assert words in seen.what
    assert remedy in seen.remedy


def test_an_exchange_whose_machine_is_not_reached_explains_what_goes_through_it() -> None:
    off = Case(EXCHANGE, "fate@192.0.2.9:22", "docker", checks=(Check("machine", FAIL, "does not answer", "look"),))
    cut = case("10000")
    for other, hop in zip(PARTIES, ("silence", "tcp", "silence"), strict=True):
        cut = failing(cut, other, hop, at="exchange" if hop == "tcp" else "peer")
    finding = only(off, cut, has_exchange=True)
    assert (finding.hop, finding.at, finding.seen_from) == ("machine", EXCHANGE, (EXCHANGE, "10000"))


def test_a_party_that_the_exchange_alone_does_not_reach_has_its_port_closed() -> None:
    closed = failing(case("9999"), "9999", "silence")
    finding = only(failing(case("10000"), "9999", "silence"), closed, has_exchange=True)
    assert (finding.hop, finding.at, finding.seen_from) == ("tcp", "9999", ("10000", "9999"))
    assert "Open port 9370/tcp in the firewall of party 9999 for the exchange" in finding.remedy
