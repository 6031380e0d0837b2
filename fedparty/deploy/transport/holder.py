"""Who deploys: what stands in a lock file.

Owns the text of a lock and what is said of it. Locks nothing.
"""

from __future__ import annotations

import getpass
import json
import os
import secrets
import socket
from datetime import datetime
from pathlib import PurePath

from fedparty.errors import DeployError

LOCK_FILE = ".deploy.lock"


def describe_self() -> str:
    """Return this deployer as a lock file names it: who, since when, and what no other lock says."""
    since = datetime.now().astimezone().isoformat(timespec="seconds")
    return json.dumps({"who": _who(), "since": since, "id": secrets.token_hex(8)})


def is_held(folder: PurePath, place: str, text: str) -> DeployError:
    """Return the error that `folder` is locked by whoever left `text`."""
    where = f"{place}: {folder}"
    hint = "Wait until it has ended, then run this again."
    try:
        holder = json.loads(text)
        return DeployError(f"{where}: {holder['who']} is deploying here since {holder['since']}", hint=hint)
    except (ValueError, KeyError, TypeError):
        return DeployError(f"{where}: somebody is deploying here now", hint=hint)


def _who() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # no entry for this uid
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()} (process {os.getpid()})"
