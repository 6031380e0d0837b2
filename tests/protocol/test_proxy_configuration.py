"""What every rendered configuration says: Envoy accepts it, and no default that would hurt is left in force."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from envoy_validation import fold, validate_envoy
from proxy_certificates import CertificateMaker
from proxy_party import ARGUMENTS, ProxyHome, peer_of

from fedparty.generate.addresses import replicas
from fedparty.generate.render import TEMPLATES

MAKER = CertificateMaker()
REPOSITORY = TEMPLATES.parent
ON_NETWORK = {
    "egress": "0.0.0.0:9390",
    "envoy_admin": "unix:run/envoy-admin.sock",
    "federation_peer": "federation:9395",
}
FLOW_ON_NETWORK = {"peer": "flow:9360", "rest": "flow:9380"}
TWO_FLOWS = [asdict(replica) for replica in replicas(2)]
THROUGH_EXCHANGE = {"exchange": {"address": "exchange.example", "port": 9371, "is_neighbour": False}, "peers": []}
NAMED = peer_of("lab", "1", 1) | {"address": "a.example"}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "direct": ("10000", {}),
    "not published": ("10000", {"party": {"rest_port": None}}),
    "through an exchange": ("10000", THROUGH_EXCHANGE),
    "on a network": (
        "10000",
        {"sockets": ON_NETWORK, "replicas": [FLOW_ON_NETWORK], "party": {"proxy_bind": "::", "rest_bind": "0.0.0.0"}},
    ),
    "two flows": ("10000", {"replicas": TWO_FLOWS}),
    "names and IPv6": (
        "10000",
        {"peers": [NAMED, peer_of("lab", "2", 2) | {"address": "2001:db8::2"}]},
    ),
    "largest window": ("10000", {"party": {"window_bytes": 2**31 - 1}}),
    "smallest window": ("10000", {"party": {"window_bytes": 65535}}),
    "alone": ("10000", {"peers": []}),
    "exchange": ("exchange", {"peers": [NAMED, peer_of("lab", "2", 2)]}),
    "exchange of nobody": ("exchange", {"peers": []}),
}


def render(tmp_path: Path, name: str) -> Path:
    """Write one variant's bundle."""
    party, variables = VARIANTS[name]
    home = ProxyHome(party, MAKER, dict(variables))
    home.write_bundle(tmp_path)
    return tmp_path


def objects(node: Any, key: str) -> Iterator[Any]:
    """Yield the value of every field of that name."""
    if isinstance(node, dict):
        if key in node:
            yield node[key]
        for value in node.values():
            yield from objects(value, key)
    elif isinstance(node, list):
        for value in node:
            yield from objects(value, key)


@pytest.fixture
def resources(tmp_path: Path) -> dict[str, Any]:
    """The whole configuration of a party, folded."""
    folded: dict[str, Any] = fold(render(tmp_path, "direct") / "proxy")["static_resources"]
    return folded


@pytest.fixture
def listeners(resources: dict[str, Any]) -> dict[str, Any]:
    return {listener["name"]: listener for listener in resources["listeners"]}


def manager(listener: dict[str, Any]) -> dict[str, Any]:
    """Return a listener's HTTP connection manager."""
    config: dict[str, Any] = listener["filter_chains"][0]["filters"][0]["typed_config"]
    return config


@pytest.mark.parametrize("name", VARIANTS)
def test_envoy_accepts(name: str, tmp_path: Path) -> None:
    validate_envoy(render(tmp_path, name))


@pytest.mark.parametrize(
    ("file", "old", "new", "complaint"),
    [
        ("live/cds.json", '"connect_timeout"', '"connect_timeuot"', "connect_timeuot"),
        ("live/rds_ingress.json", '"flow_peer"', '"flow_pear"', "flow_pear"),
        ("live/sds_trust.json", "BEGIN CERTIFICATE", "BEGIN CERTIFICAT", "trusted CA"),
        ("live/lds.json", "TLSv1_3", "TLSv1_4", "TLSv1_4"),
    ],
)
def test_the_validation_reads_live_files(file: str, old: str, new: str, complaint: str, tmp_path: Path) -> None:
    path = render(tmp_path, "direct") / "proxy" / file
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(AssertionError, match=complaint):
        validate_envoy(tmp_path)


def test_no_time_out_cuts_a_long_stream(resources: dict[str, Any], listeners: dict[str, Any]) -> None:
    routes = [route for listener in listeners.values() for found in objects(listener, "routes") for route in found]
    actions = [route["route"] for route in routes if "route" in route]
    assert len(actions) == 1 + 2 + 3
    for action in actions:
        assert (action["timeout"], action["idle_timeout"]) == ("0s", "0s")
        assert action["max_stream_duration"] == {"grpc_timeout_header_max": "0s"}
        assert action["retry_policy"]["retry_on"] == "connect-failure,refused-stream"
    for name in ("egress", "ingress"):
        assert manager(listeners[name])["stream_idle_timeout"] == "0s"
        assert manager(listeners[name])["common_http_protocol_options"]["idle_timeout"] == "0s"
    assert manager(listeners["rest"])["stream_idle_timeout"] == "0s"
    assert not list(objects(resources, "max_stream_idle_timeout"))


def test_routes_are_in_files_of_their_own_for_new_listeners_cut_streams(tmp_path: Path) -> None:
    live = json.loads((render(tmp_path, "direct") / "proxy/live/lds.json").read_text())
    names = [route["config_source"]["path_config_source"]["path"] for route in objects(live, "rds")]
    assert names == ["bundle/proxy/live/rds_egress.json", "bundle/proxy/live/rds_ingress.json"]
    assert [route["name"] for route in objects(live, "route_config")] == ["rest"]


def test_the_exchange_cuts_no_quiet_connection(tmp_path: Path) -> None:
    [listener] = fold(render(tmp_path, "exchange") / "proxy")["static_resources"]["listeners"]
    ways = [chain["filters"][0]["typed_config"] for chain in listener["filter_chains"]]
    assert [way["idle_timeout"] for way in ways] == ["0s", "0s"]


def test_dead_peers_are_noticed_and_grpc_servers_are_not_pinged(
    resources: dict[str, Any], listeners: dict[str, Any]
) -> None:
    pings = {"interval": "2s", "timeout": "10s"}
    assert manager(listeners["ingress"])["http2_protocol_options"]["connection_keepalive"] == pings
    clusters = {cluster["name"]: cluster for cluster in resources["clusters"]}
    assert list(objects(clusters["10000"], "connection_keepalive")) == [pings]
    for own in ("federation_peer", "flow_peer"):
        assert not list(objects(clusters[own], "connection_keepalive"))


def test_tls_is_1_3_and_never_resumed(resources: dict[str, Any]) -> None:
    versions = {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"}
    contexts = [item for item in objects(resources, "typed_config") if item["@type"].endswith("TlsContext")]
    assert len(contexts) == 2 + 1
    for context in contexts:
        assert context["common_tls_context"]["tls_params"] == versions
        if "Downstream" in context["@type"]:
            assert context["disable_stateless_session_resumption"]
            assert context["disable_stateful_session_resumption"]
        else:
            assert context["max_session_keys"] == 0


def test_two_proxies_never_share_a_port(listeners: dict[str, Any]) -> None:
    assert [listener["enable_reuse_port"] for listener in listeners.values()] == [False] * 3


def test_many_retries_and_requests_fit(resources: dict[str, Any]) -> None:
    for cluster in resources["clusters"]:
        [limits] = cluster["circuit_breakers"]["thresholds"]
        assert limits["max_retries"] == 1000
        assert limits["max_requests"] >= 65536


@pytest.mark.parametrize(
    ("window", "connection", "buffer"),
    [(1 << 20, 2 << 20, 1 << 20), (16 << 20, 32 << 20, 2 << 20), (64 << 20, 128 << 20, 8 << 20)],
)
def test_windows_follow_the_setting(window: int, connection: int, buffer: int, tmp_path: Path) -> None:
    home = ProxyHome("10000", MAKER, {"party": {"window_bytes": window}})
    home.write_bundle(tmp_path)
    resources = fold(tmp_path / "proxy")["static_resources"]
    windows = {
        item["name"]: (options["initial_stream_window_size"], options["initial_connection_window_size"])
        for kind in resources.values()
        for item in kind
        for options in objects(item, "http2_protocol_options")
    }
    assert [windows[name] for name in ("ingress", "10000")] == [(window, connection)] * 2
    inner = min(window, 2 << 20)
    assert [windows[name] for name in ("egress", "federation_peer", "flow_peer")] == [(inner, 2 * inner)] * 3
    found = {
        item["name"]: item.get("per_connection_buffer_limit_bytes") for kind in resources.values() for item in kind
    }
    assert [found[name] for name in ("egress", "ingress", "10000", "federation_peer", "flow_peer")] == [buffer] * 5


def test_a_revoked_party_is_let_in_no_longer_than_the_age_of_a_connection(listeners: dict[str, Any]) -> None:
    ingress = manager(listeners["ingress"])
    assert ingress["common_http_protocol_options"]["max_connection_duration"] == "300s"
    assert ingress["drain_timeout"] == "1s"


def test_only_names_that_are_kept_are_kept(listeners: dict[str, Any]) -> None:
    [pattern] = re.findall(r'"regex": "(x-fedparty-[^"]*)"', json.dumps(manager(listeners["ingress"])))
    parts = ["", *"joxbt-", "jo", "job", "to", "jox", "tox", "from", "serial", "proxy"]
    for rest in {first + second for first in parts for second in parts}:
        assert bool(re.fullmatch(pattern, f"x-fedparty-{rest}")) == (rest not in ("to", "job")), rest
    assert not re.fullmatch(pattern, "authorization")


def test_the_secret_is_in_one_live_file_alone(tmp_path: Path) -> None:
    found = [path.name for path in render(tmp_path, "direct").rglob("*.json") if "secret-of-10000" in path.read_text()]
    assert found == ["rds_ingress.json"]


def test_a_bundle_does_not_grow_behind_an_exchange(tmp_path: Path) -> None:
    crowd = [peer_of("lab", str(party), 9370) for party in range(1, 100)]
    sizes = []
    for name, peers in (("few", []), ("many", crowd)):
        home = ProxyHome("10000", MAKER, THROUGH_EXCHANGE | {"peers": peers})
        home.port = home.rest_port = 9370
        home.write_bundle(tmp_path / name)
        sizes.append({path.name: path.stat().st_size for path in (tmp_path / name).rglob("*.json")})
    assert sizes[0] == sizes[1]


def test_the_command_line_is_one() -> None:
    """The supervisor starts, and the documentation shows, what these tests start."""
    one_line = re.sub(r"\s+", " ", (TEMPLATES / "proxy/bootstrap.json.j2").read_text())
    assert ARGUMENTS in one_line
    assert ARGUMENTS in re.sub(r"\s+", " ", (TEMPLATES / "supervisord.conf.j2").read_text())
    assert ARGUMENTS in re.sub(r"[\s\\]+", " ", (REPOSITORY / "docs/proxy.md").read_text())
