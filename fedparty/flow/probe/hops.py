"""Which hop a failed call ended at.

Owns the reading of the catalogue's codes and of the proxies' words (``templates/proxy/live/lds.json.j2``; a test holds
them together). Does not own what to do about it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from fedparty.errors import RpcError

PROXY = "proxy"
"""The caller's own proxy does not answer."""
ROUTE = "route"
"""A proxy, or the exchange, does not know the party, or leads to another one."""
DNS = "dns"
"""The host name that the proxy dials is not known."""
TCP = "tcp"
"""No connection."""
TLS = "tls"
"""One proxy refuses the other's certificate."""
TOKEN = "token"
"""A service refuses what proves who calls."""
FLOW = "flow"
"""The peer's flow does not answer its proxy, or failed."""
VERSION = "version"
"""The peer speaks another protocol."""
SILENCE = "silence"
"""No answer in time: the connection is dropped on its way, or something at the peer hangs."""

OWN, AT_EXCHANGE, AT_PEER = "own", "exchange", "peer"

_ADDRESS = re.compile(r" at (\S+:[0-9]+)(?:[: ]|$)")
_NOT_CONNECTED = re.compile(r"delayed_connect_error|connect_timeout|connection_timeout|immediate_connect_error", re.I)
_OTHER_NAME = re.compile(r"\bSAN\b|_SAN_")
"""In Envoy's words for a sound certificate of somebody else."""

_BY_CODE: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "PROXY_DOWN": (PROXY, OWN),
        "UNKNOWN_PARTY": (ROUTE, OWN),
        "WRONG_PARTY": (ROUTE, OWN),
        "PEER_UNREACHABLE": (TCP, AT_PEER),
        "CONNECTION_LOST": (TCP, AT_PEER),
        "PEER_TLS_REFUSED": (TLS, AT_PEER),
        "CERTIFICATE_REVOKED": (TLS, OWN),
        "NOT_THROUGH_PROXY": (TOKEN, AT_PEER),
        "NOT_ALLOWED": (TOKEN, AT_PEER),
        "TOKEN_REFUSED": (TOKEN, AT_PEER),
        "PROTOCOL_MISMATCH": (VERSION, AT_PEER),
        "NOT_SUPPORTED": (VERSION, AT_PEER),
        "DEADLINE": (SILENCE, AT_PEER),
    }
)


@dataclass(frozen=True)
class Fault:
    """Where a call ended.

    Attributes
    ----------
    hop
        One of this module's words.
    at
        ``own``, ``exchange`` or ``peer``: whose part of the way it is.
    address
        What the proxy dialled, ``host:port``, where it says so.
    """

    hop: str
    at: str
    address: str = ""


def fault_of(error: RpcError) -> Fault:
    """Return where a call that failed so ended; what is not known otherwise is the peer's flow's."""
    hop, at = _BY_CODE.get(error.code, (FLOW, AT_PEER))
    address = _ADDRESS.search(error.message)
    return Fault(*_told_in_words(error, hop, at), address[1] if address else "")


def _told_in_words(error: RpcError, hop: str, at: str) -> tuple[str, str]:
    """Return what the proxy's sentence adds to its code."""
    if error.code == "PEER_UNREACHABLE" and "not known to DNS" in error.message:
        return DNS, OWN
    if error.code == "PEER_TLS_REFUSED" and _OTHER_NAME.search(error.message):
        return ROUTE, OWN
    if error.code == "UNKNOWN_PARTY" and "the exchange has no route" in error.message:
        return ROUTE, AT_EXCHANGE
    if error.code == "PEER_UNREACHABLE" and "through the exchange" in error.message:
        # Nobody accepts a connection: the exchange. It accepts one and ends it: what lies behind it.
        return TCP, AT_EXCHANGE if _NOT_CONNECTED.search(error.message) else AT_PEER
    return hop, at
