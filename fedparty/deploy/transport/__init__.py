"""How a machine is reached: this one, or another by SSH.

Owns the choice of a transport by address. Knows nothing of what runs on the machine.
"""

from __future__ import annotations

from pathlib import Path

from fedparty.config.model import Machine
from fedparty.deploy.transport.base import Completed, FileState, Transport
from fedparty.deploy.transport.local import LocalTransport, is_local
from fedparty.deploy.transport.prompt import Prompt

__all__ = ["Completed", "FileState", "LocalTransport", "Prompt", "Transport", "is_reached_by_ssh", "open_transport"]

_SSH_PORT = 22


def is_reached_by_ssh(machine: Machine) -> bool:
    """Tell whether a machine is another one: a local address with a port of its own is one, too."""
    return machine.ssh_port != _SSH_PORT or not is_local(machine.address)


def open_transport(machine: Machine, *, accept_host_key: bool, prompt: Prompt | None) -> Transport:
    """Return the way to a machine; it connects when it is first used.

    Parameters
    ----------
    accept_host_key
        Trust a machine that is not known yet, unasked.
    prompt
        Who is asked for passwords and about new machines; None: nobody.

    Raises
    ------
    ConfigurationError
        The user's SSH configuration cannot be used.
    """
    if not is_reached_by_ssh(machine):
        return LocalTransport()
    # Not before it is needed: paramiko takes a third of the time in which a local deploy is ready to begin.
    from fedparty.deploy.transport.ssh import SshHost, SshTransport

    port = None if machine.ssh_port == _SSH_PORT else machine.ssh_port
    host = SshHost(machine.address, port, machine.user, machine.ssh_key)
    known_hosts = Path.home() / ".ssh" / "known_hosts"
    return SshTransport(host, known_hosts, prompt or Prompt(is_there=False), is_new_host_accepted=accept_host_key)
