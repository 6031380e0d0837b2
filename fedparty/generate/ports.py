"""Which TCP port each party and the exchange gets on its machine.

Owns the assignment: a given port wins, an assigned one stays, the rest get the next free one. Pure. Does not own where
assignments are kept (`fedparty.generate.outputs`), nor whether a foreign program holds a port (`fedparty.deploy`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from fedparty.config.model import FIRST_PORTS, Federation
from fedparty.errors import ConfigurationError
from fedparty.generate.addresses import ENVOY_ADMIN_PORT
from fedparty.types import EXCHANGE

_LAST_PORT = 65535
_FIRST_CHOICES = frozenset((*FIRST_PORTS.values(), ENVOY_ADMIN_PORT))


@dataclass(frozen=True)
class Assigned:
    """The ports of one party, or of the exchange, which has no REST.

    Parameters
    ----------
    host
        The machine that its ports are counted on.
    proxy_port
        What the other parties reach.
    rest_port
        None: not published.
    """

    host: str
    proxy_port: int
    rest_port: int | None


@dataclass(frozen=True)
class _Wish:
    """A port that somebody needs; `given` is what parties.conf says, 0 for none."""

    owner: str
    kind: str
    host: str
    given: int | None

    def __str__(self) -> str:
        return self.kind if self.owner == EXCHANGE else f"{self.kind} of {self.owner}"


def assign(federation: Federation, earlier: Mapping[str, Assigned]) -> dict[str, Assigned]:
    """Return the ports of every party, and of the exchange if there is one, by id.

    Parameters
    ----------
    earlier
        What the last run assigned: nobody is moved from there, except by parties.conf itself.

    Raises
    ------
    ConfigurationError
        Two need the same port on the same machine; both are named.
    """
    taken = _Taken()
    wishes = list(_wishes(federation))
    for wish in wishes:
        if wish.given:
            taken.claim(wish, wish.given)
    for wish in wishes:
        if wish.given is None and (port := _port_before(wish, earlier)):
            taken.claim(wish, port, "since an earlier run")
    for wish in wishes:
        if wish.given is None and wish not in taken.ports:
            taken.claim(wish, taken.next_free(wish))
    return _collect(wishes, taken.ports)


class _Taken:
    def __init__(self) -> None:
        self.ports: dict[_Wish, int] = {}
        self._owners: dict[tuple[str, int], str] = {}
        self._search_from: dict[tuple[str, str], int] = {}

    def claim(self, wish: _Wish, port: int, since: str = "") -> None:
        owner = f"{wish} {since}".rstrip()
        other = self._owners.setdefault((wish.host, port), owner)
        if other != owner:
            raise ConfigurationError(
                f"port {port} on {wish.host} is taken twice: by {other} and by {owner}",
                hint="Write another port for one of them into parties.conf.",
            )
        self.ports[wish] = port

    def next_free(self, wish: _Wish) -> int:
        """Return the kind's first choice, or the next port that is nobody's, nor the first choice of another kind."""
        first = FIRST_PORTS[wish.kind]
        port = self._search_from.get((wish.host, wish.kind), first)
        while (wish.host, port) in self._owners or (port != first and port in _FIRST_CHOICES):
            port += 1
        if port > _LAST_PORT:
            raise ConfigurationError(
                f"no port is left on {wish.host} for {wish}", hint="Spread the parties over more machines."
            )
        self._search_from[wish.host, wish.kind] = port + 1
        return port


def _wishes(federation: Federation) -> Iterator[_Wish]:
    for party in federation.parties:
        yield _Wish(party.id, "proxy_port", party.host, party.proxy_port)
        yield _Wish(party.id, "rest_port", party.host, party.rest_port)
        # Nothing is planned for the board, which this release lacks; a port that is reserved for it stays free.
        yield _Wish(party.id, "board_port", party.host, party.board_port or 0)
    if federation.exchange:
        yield _Wish(EXCHANGE, "exchange_port", federation.exchange.host, federation.exchange.port)


def _port_before(wish: _Wish, earlier: Mapping[str, Assigned]) -> int | None:
    before = earlier.get(wish.owner)
    if before is None or before.host != wish.host:
        return None
    return before.rest_port if wish.kind == "rest_port" else before.proxy_port


def _collect(wishes: list[_Wish], ports: Mapping[_Wish, int]) -> dict[str, Assigned]:
    by_owner: dict[str, dict[str, int]] = {}
    hosts = {wish.owner: wish.host for wish in wishes}
    for wish, port in ports.items():
        by_owner.setdefault(wish.owner, {})["proxy_port" if wish.kind == "exchange_port" else wish.kind] = port
    return {
        owner: Assigned(host, by_owner[owner]["proxy_port"], by_owner[owner].get("rest_port"))
        for owner, host in hosts.items()
    }
