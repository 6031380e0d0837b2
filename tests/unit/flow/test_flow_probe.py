"""A failed call's hop, from the catalogue's code and the proxies' words."""

from __future__ import annotations

import pytest

from fedparty.flow.probe.answers import FAIL, OK, Answers, Check, Way
from fedparty.flow.probe.hops import Fault, fault_of
from fedparty.rpc import catalogue
from fedparty.rpc.catalogue import CATALOGUE

PROXY = "10000's proxy"


@pytest.mark.parametrize(
    ("code", "message", "fault"),
    [
        ("PROXY_DOWN", "this party's own proxy does not answer", Fault("proxy", "own")),
        ("UNKNOWN_PARTY", f"{PROXY} has no route to party 77", Fault("route", "own")),
        ("UNKNOWN_PARTY", "the exchange has no route to party 77 (...SAN...)", Fault("route", "exchange")),
        ("WRONG_PARTY", "this is the proxy of party 9998, and the call is for another one", Fault("route", "own")),
        (
            "PEER_UNREACHABLE",
            f"{PROXY} finds no address for party 9999: its host name is not known to DNS",
            Fault("dns", "own"),
        ),
        (
            "PEER_UNREACHABLE",
            f"{PROXY} cannot reach party 9999 at 10.0.0.2:9370: delayed_connect_error:_Connection_refused",
            Fault("tcp", "peer", "10.0.0.2:9370"),
        ),
        (
            "PEER_UNREACHABLE",
            f"{PROXY} cannot reach party 9999 through the exchange at x.org:9371: delayed_connect_error:_refused",
            Fault("tcp", "exchange", "x.org:9371"),
        ),
        (
            "PEER_UNREACHABLE",
            f"{PROXY} cannot reach party 9999 through the exchange at x.org:9371: TLS_error:|33554464:system library",
            Fault("tcp", "peer", "x.org:9371"),
        ),
        (
            "PEER_TLS_REFUSED",
            f"{PROXY} and the proxy of party 9999 at [::1]:9370 refuse each other: TLS_error:|268435581:SSL routines",
            Fault("tls", "peer", "[::1]:9370"),
        ),
        ("CERTIFICATE_REVOKED", "the certificate 1f of party 10000 is revoked", Fault("tls", "own")),
        ("PEER_FLOW_DOWN", "party 9999's flow does not answer its proxy", Fault("flow", "peer")),
        ("NOT_THROUGH_PROXY", "the call did not come through this party's proxy", Fault("token", "peer")),
        ("PROTOCOL_MISMATCH", "party 9999 speaks 2.0", Fault("version", "peer")),
        ("DEADLINE", "ping at party 9999: no answer in time", Fault("silence", "peer")),
        ("INTERNAL", "unforeseen error: KeyError", Fault("flow", "peer")),
    ],
)
def test_where_a_call_ended(code: str, message: str, fault: Fault) -> None:
    assert code in CATALOGUE
    assert fault_of(catalogue.error(code, message)) == fault


def test_a_probe_is_sound_if_nothing_failed() -> None:
    check, way = Check("worker", OK, "answers"), Way("9999", latency_ms=1.0)
    assert Answers("10000", "1", (check,), (way,)).is_sound
    assert not Answers("10000", "1", (Check("worker", FAIL, "does not answer"),), (way,)).is_sound
    assert not Answers("10000", "1", (check,), (Way("9999", hop="dns"),)).is_sound
