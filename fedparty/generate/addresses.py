"""Where the services of one party reach each other.

Owns the one table of inner addresses, for each engine. Does not own published ports (`fedparty.generate.ports`).
"""

from __future__ import annotations

from dataclasses import dataclass

from fedparty.errors import ConfigurationError

ENVOY_ADMIN_PORT = 9901
"""Of the docker engine; nothing else may listen there in the proxy's container."""

_LISTENERS = (
    "egress",
    "federation_local",
    "federation_peer",
    "federation_operations",
    "flow_rest",
    "leader_peer",
    "leader_rest",
    "worker",
    "worker_operations",
)
_ADMIN = {"process": "unix:run/envoy-admin.sock", "docker": f"127.0.0.1:{ENVOY_ADMIN_PORT}"}
"""In a container Envoy's admin is on its own loopback address, where no task can reach it."""


def inner_addresses(engine: str) -> dict[str, str]:
    """Return the gRPC target of each listener: a Unix socket in the party's private folder ``run``.

    Raises
    ------
    ConfigurationError
        There is no such engine.
    """
    if engine not in _ADMIN:
        raise ConfigurationError(f"{engine!r} is not an engine", hint="Write docker or process.")
    sockets = {name: f"unix:run/{name.replace('_', '-')}.sock" for name in _LISTENERS}
    return sockets | {"envoy_admin": _ADMIN[engine]}


@dataclass(frozen=True)
class Replica:
    """One of a party's job servers: its number from 1 on, its service, and its own listeners."""

    number: int
    service: str
    rest: str
    peer: str
    operations: str


def replicas(count: int) -> tuple[Replica, ...]:
    """Return a party's job servers; the only one has the listeners that everybody else knows.

    With several, the proxy listens where people look for REST, and leads to the one that leads.
    """
    return tuple(_replica(number, count) for number in range(1, count + 1))


def replica_services(count: int) -> tuple[str, ...]:
    """Return the names of a party's job servers."""
    return tuple(replica.service for replica in replicas(count))


def _replica(number: int, count: int) -> Replica:
    prefix = "flow" if count == 1 else f"flow-{number}"
    listeners = (f"unix:run/{prefix}-{name}.sock" for name in ("rest", "peer", "operations"))
    return Replica(number, "flow" if number == 1 else f"flow-{number}", *listeners)
