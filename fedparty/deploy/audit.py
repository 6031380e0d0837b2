"""Who did what to a party and when: a file on its machine that only grows.

Owns the line's form and its writing. Decides nothing.
"""

from __future__ import annotations

import getpass
import json
import os
import socket
from datetime import UTC, datetime

from fedparty import __version__
from fedparty.deploy.commands import Command
from fedparty.deploy.home import Home
from fedparty.deploy.transport import Transport


async def append(transport: Transport, home: Home, party: str, what: str) -> None:
    """Add one line to the home's audit log."""
    line = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "who": operator(),
        "release": __version__,
        "party": party,
        "what": what,
    }
    command = Command(("sh", "-c", 'umask 077; cat >> "$1"', "sh", str(home.audit)))
    done = await transport.run(command, source=[json.dumps(line).encode() + b"\n"])
    done.require(f"{transport.place}: {home.audit}")


def operator() -> str:
    """Return who runs the deployer, for people."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # no entry for this uid
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
