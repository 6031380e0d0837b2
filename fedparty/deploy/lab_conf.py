"""The parties.conf that a new lab begins with.

Owns what can be asked for, the ids and the ports. Pure, but for looking which ports are free. Does not own what becomes
of the file afterwards: that is its owner's (`fedparty.config.edit`, `fedparty.deploy.lab`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fedparty.deploy import processes
from fedparty.errors import DeployError

FIRST_PARTY = 10000
"""The others count down from it."""

FIRST_PORT = 9370
DEFAULT_PARTIES = 2
ADDRESS = "127.0.0.1"
_EVERYWHERE = "0.0.0.0"  # noqa: S104  # where to look whether a port is free, not to listen
_LAST_PORT = 65535
_HEAD = """\
# A lab: parties on this machine, as processes, secured like any federation. Made by `fedparty lab up`.
# Edit it and run `fedparty lab up` again: only what must is restarted. Every key: docs/parties.conf.md.
engine=process
# together: a party's Python services are one process, which saves memory; separate: one process each.
service_layout={layout}
"""


@dataclass(frozen=True)
class Shape:
    """What is wanted of a lab; None: as it is, or the default where there is none yet.

    Attributes
    ----------
    parties
        How many.
    is_shrunk
        Whether parties may be removed to come down to that number.
    is_together
        Whether a party's Python services are one process; else only where there are more than two parties.
    has_exchange
        Whether the parties meet at an exchange.
    base_port
        The first port that is tried.
    """

    parties: int | None = None
    is_shrunk: bool = False
    is_together: bool | None = None
    has_exchange: bool = False
    base_port: int | None = None


def new_conf(shape: Shape) -> str:
    """Return the text of a new lab's parties.conf.

    Raises
    ------
    DeployError
        There are not enough free ports.
    """
    n = DEFAULT_PARTIES if shape.parties is None else shape.parties
    is_together = n > DEFAULT_PARTIES if shape.is_together is None else shape.is_together
    ports = free_ports(shape.base_port or FIRST_PORT, frozenset())
    head = _HEAD.format(layout="together" if is_together else "separate")
    exchange = f"exchange_ip={ADDRESS}\nexchange_port={next(ports)}\n" if shape.has_exchange else ""
    parties = [str(FIRST_PARTY - index) for index in range(n)]
    lists = f"party_list=({' '.join(parties)})\nparty_ip_list=({' '.join([ADDRESS] * n)})\n"
    sections = (f"\n[{party}]\nproxy_port={next(ports)}\nrest_port={next(ports)}\n" for party in parties)
    return "".join([head, exchange, lists, *sections])


def free_ports(first: int, taken: frozenset[int]) -> Iterator[int]:
    """Yield ports of this machine that are free now and not among `taken`, from `first` on.

    Raises
    ------
    DeployError
        There is none left.
    """
    for port in range(first, _LAST_PORT + 1):
        if port not in taken and processes.is_free(_EVERYWHERE, port):
            yield port
    raise DeployError(f"no port from {first} on is free on this machine", hint="Begin lower: --base-port.")
