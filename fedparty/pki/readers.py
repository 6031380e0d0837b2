"""Which service of a party reads which file of its bundle, and in which order running ones are given new files.

Owns that one table: it says what a container gets to see, and what is started anew when a file changed. Does not own
the list of files (`fedparty.pki.manifest`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from fedparty.pki.manifest import READ_BY_NO_SERVICE, FileEntry

SUPERVISOR, COMPOSE = "supervisord.conf", "docker-compose.yml"
"""What the engines read: not a service's business."""

_LIVE_ORDER = ("sds_", "cds", "rds_", "lds")

_FLOWS = ("flow", "flow-2")
"""A party's job servers: the first one's folder holds what both read."""

_SHARED: Mapping[str, frozenset[str]] = {
    "ca": frozenset({"federation", *_FLOWS, "worker"}),
    "flow": frozenset(_FLOWS),
    "flow/settings.json": frozenset({"flow"}),
    "secrets/api-token": frozenset(_FLOWS),
    "secrets/proxy-secret": frozenset({"federation", *_FLOWS}),
    "secrets/mysql-password": frozenset({*_FLOWS, "mysql"}),
}
"""Files outside of the services' own folders, or folders of them, and who reads them."""


def readers(path: str, file: FileEntry) -> frozenset[str]:
    """Return the services that read a file once, when they start: none for what they notice by themselves."""
    if file.is_live or path in READ_BY_NO_SERVICE or path in (SUPERVISOR, COMPOSE):
        return frozenset()
    folder = path.partition("/")[0]
    return _SHARED.get(path) or _SHARED.get(folder) or frozenset({folder})


def digest(service: str, files: Mapping[str, FileEntry]) -> str:
    """Return a digest of all that a service reads once, when it starts.

    Parameters
    ----------
    files
        Of its bundle, by path.
    """
    read = (f"{path}={file.sha256}" for path, file in sorted(files.items()) if service in readers(path, file))
    return hashlib.sha256("\n".join(read).encode()).hexdigest()


def live_rank(path: str) -> tuple[int, str]:
    """Return what live files are put in place by: clusters before the routes that lead to them, listeners last."""
    name = path.rpartition("/")[2]
    return next((rank for rank, prefix in enumerate(_LIVE_ORDER, 1) if name.startswith(prefix)), 0), path
