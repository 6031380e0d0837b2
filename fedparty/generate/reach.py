"""Whether the machines of a federation can reach each other as parties.conf says, before anything is written.

Owns what an address means to an engine: a container's 127.0.0.1 is the container itself. Pure; tries no connection.
"""

from __future__ import annotations

from collections.abc import Iterator

from fedparty.config.model import Exchange, Federation, Machine, Party
from fedparty.errors import ConfigurationError
from fedparty.generate.addresses import ENVOY_ADMIN_PORT
from fedparty.types import EXCHANGE

_Kind = tuple[bool, str]
"""Whether the address is a loopback address, and the engine: all machines of one kind reach each other."""


def check_reachable(federation: Federation) -> None:
    """Refuse addresses at which a party would look for another one in vain.

    Raises
    ------
    ConfigurationError
        Two machines that must reach each other cannot; or a party cannot reach its database, or use a port.
    """
    for one, other in _pairs(federation):
        if fault := _fault(one, other):
            raise fault
    for party in federation.parties:
        _check_database(party)
        _check_ports(party.id, party.engine, party.proxy_port, party.rest_port)
    if federation.exchange:
        _check_ports(EXCHANGE, federation.exchange.engine, federation.exchange.port)


def _pairs(federation: Federation) -> Iterator[tuple[Party | Exchange, Party | Exchange]]:
    """Yield those that must reach each other: one pair of each two kinds, for all of a kind are alike."""
    first: dict[_Kind, Party] = {}
    for party in federation.parties:
        first.setdefault((party.is_loopback, party.engine), party)
    kinds = list(first.values())
    if federation.exchange:
        yield from ((party, federation.exchange) for party in kinds)
    else:
        yield from ((one, other) for number, one in enumerate(kinds) for other in kinds[number + 1 :])


def _fault(one: Party | Exchange, other: Party | Exchange) -> ConfigurationError | None:
    if one.engine == other.engine == "process" or (one.engine, one.is_loopback) == (other.engine, other.is_loopback):
        return None
    if not one.is_loopback and not other.is_loopback:
        return None
    near, far = (one, other) if one.is_loopback else (other, one)
    names = f"{_name(one)} ({one.address}, {one.engine}) and {_name(other)} ({other.address}, {other.engine})"
    if far.is_loopback:
        why = f"a container's {far.address} is the container itself"
        hint = "Give both the same engine, or write this machine's address in its network for both."
    else:
        why = f"{near.address} means another machine to each who asks"
        hint = f"Write for {_name(near)} the address at which {_name(far)} reaches it."
    return ConfigurationError(f"{names} cannot reach each other: {why}", hint=hint)


def _check_database(party: Party) -> None:
    database = party.database
    if database and party.engine == "docker" and _is_loopback(database.host):
        raise ConfigurationError(
            f"parties.conf: mysql_ip of {party.id}: a container's {database.host} is the container itself",
            hint="Write the machine's address in its network, or leave mysql_ip out: the party then has its own.",
        )


def _check_ports(owner: str, engine: str, *ports: int | None) -> None:
    if engine == "docker" and ENVOY_ADMIN_PORT in ports:
        raise ConfigurationError(
            f"parties.conf: port {ENVOY_ADMIN_PORT} of {owner} is taken in its proxy's container, by Envoy itself",
            hint="Write another port.",
        )


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


def _name(machine: Machine) -> str:
    return f"party {machine.id}" if isinstance(machine, Party) else "the exchange"
