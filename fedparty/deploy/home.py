"""A party's home: the folder that all its services work in.

Owns where things lie in a home. Does not create or change anything.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

LONGEST_SOCKET_PATH = 100
"""Bytes; the kernel's limit is 107, and the supervisor adds its process id while it binds."""

_LONGEST_SOCKET = "federation-operations.sock"


@dataclass(frozen=True)
class Owner:
    """Whose files a home's are, and as whom its containers run."""

    uid: int
    gid: int


@dataclass(frozen=True)
class Home:
    """The layout of a home; see `fedparty.settings`."""

    path: Path

    @property
    def bundle(self) -> Path:
        """The signed bundle, as generated."""
        return self.path / "bundle"

    @property
    def staged(self) -> Path:
        """Where a bundle is copied before it is put in place."""
        return self.path / ".bundle.new"

    @property
    def data(self) -> Path:
        """What must be kept."""
        return self.path / "data"

    @property
    def logs(self) -> Path:
        """One file a service, rotated."""
        return self.path / "logs"

    @property
    def keys(self) -> Path:
        """Private keys that the party made itself; they are in no bundle."""
        return self.path / "keys"

    @property
    def policy(self) -> Path:
        """What the site allows: its own file, in no bundle."""
        return self.path / "policy"

    @property
    def run(self) -> Path:
        """Sockets; a link to `short_run` where this path is too long for them."""
        return self.path / "run"

    @property
    def pinned_fingerprint(self) -> Path:
        """The fingerprint of the federation that this home belongs to."""
        return self.path / "fingerprint"

    @property
    def releases(self) -> Path:
        """Copies of the bundles that were deployed and found healthy, by time."""
        return self.path / "releases"

    @property
    def backups(self) -> Path:
        """Dumps of the database, made before each migration."""
        return self.path / "backups"

    @property
    def audit(self) -> Path:
        """Who deployed what and when, one JSON line each."""
        return self.path / "audit.jsonl"

    @property
    def started(self) -> Path:
        """What each program was last started with: digests, JSON."""
        return self.path / "started.json"

    @property
    def supervisor_socket(self) -> Path:
        """The supervisor's own listener."""
        return self.short_run / "supervisor.sock"

    @property
    def short_run(self) -> Path:
        """The folder that holds the sockets, under a path short enough for them."""
        if self.run.is_symlink():
            return self.run.readlink()
        if len(os.fsencode(self.run / _LONGEST_SOCKET)) <= LONGEST_SOCKET_PATH:
            return self.run
        name = hashlib.sha256(os.fsencode(self.path)).hexdigest()[:16]
        return Path(os.environ.get("XDG_RUNTIME_DIR") or "/tmp") / f"fedparty-{os.getuid()}-{name}"  # noqa: S108

    def log(self, program: str) -> Path:
        """Return the log file of a program."""
        return self.logs / f"{program}.log"
