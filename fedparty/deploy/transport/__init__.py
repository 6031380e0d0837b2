"""How a machine is reached: this one, or (with a later release) one behind SSH.

Owns the choice of a transport by address. Knows nothing of what runs on the machine.
"""

from __future__ import annotations

from fedparty.deploy.transport.base import Completed, Transport
from fedparty.deploy.transport.local import LocalTransport, is_local
from fedparty.errors import NotAvailableError

__all__ = ["Completed", "LocalTransport", "Transport", "open_transport"]


def open_transport(party: str, address: str) -> Transport:
    """Return the way to the machine with this address.

    Raises
    ------
    NotAvailableError
        The address is another machine's.
    """
    if is_local(address):
        return LocalTransport()
    raise NotAvailableError(
        f"party {party}: {address} is another machine, and this release deploys to this machine only",
        hint=f"Run fedparty there and deploy with --engine process, or give {party} an address of this machine.",
    )
