"""Where the services of one party reach each other.

Owns the one table of inner addresses, for each engine. Does not own published ports (`fedparty.generate.ports`).
"""

from __future__ import annotations

from collections.abc import Callable

from fedparty.errors import ConfigurationError

_LISTENERS = {
    "egress": ("proxy", 9390),
    "federation_local": ("federation", 9394),
    "federation_peer": ("federation", 9395),
    "federation_operations": ("federation", 9396),
    "flow_peer": ("flow", 9360),
    "flow_rest": ("flow", 9380),
    "flow_operations": ("flow", 9361),
    "worker": ("worker", 7888),
    "worker_operations": ("worker", 7889),
}
"""Listener -> who listens, and its port on a network of the bundle's own: the one that KubeFATE users know, if any."""


def inner_addresses(engine: str, service: str) -> dict[str, str]:
    """Return the gRPC target of each listener as `service` uses it: to listen on its own, to call the others'."""
    try:
        address = _ENGINES[engine]
    except KeyError as exc:
        raise ConfigurationError(f"{engine!r} is not an engine", hint="Write docker or process.") from exc
    table = {name: address(name, owner, port, owner == service) for name, (owner, port) in _LISTENERS.items()}
    return table | {"envoy_admin": _socket("envoy_admin", "proxy", 0, True)}


def _socket(listener: str, owner: str, port: int, is_own: bool) -> str:
    """Process engine: a Unix socket in the home's 0700 folder, for both sides."""
    return f"unix:run/{listener.replace('_', '-')}.sock"


def _on_network(listener: str, owner: str, port: int, is_own: bool) -> str:
    """Docker engine: a port on the bundle's own network, where a service's name is its host name."""
    return f"0.0.0.0:{port}" if is_own else f"{owner}:{port}"


_ENGINES: dict[str, Callable[[str, str, int, bool], str]] = {"process": _socket, "docker": _on_network}
