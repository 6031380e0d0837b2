"""Where the services of one party reach each other.

Owns the one table of inner addresses, for each engine. Does not own published ports (`fedparty.generate.ports`).
"""

from __future__ import annotations

from fedparty.errors import ConfigurationError

ENVOY_ADMIN_PORT = 9901
"""Of the docker engine; nothing else may listen there in the proxy's container."""

_LISTENERS = (
    "egress",
    "federation_local",
    "federation_peer",
    "federation_operations",
    "flow_peer",
    "flow_rest",
    "flow_operations",
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
