"""The host keys that this user and this machine know.

Owns reading known_hosts files and adding to one. Does not decide what is trusted; see `host_keys`.

**Source.** sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT".
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import hashlib
import hmac
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

SYSTEM_FILE = Path("/etc/ssh/ssh_known_hosts")

_REVOKED = "@revoked"


@dataclass(frozen=True)
class HostKey:
    """A public key of a machine: its type, e.g. ``ssh-ed25519``, and its blob."""

    kind: str
    blob: bytes
    is_revoked: bool = False
    place: str = ""

    @property
    def fingerprint(self) -> str:
        """The key as people compare it."""
        digest = base64.b64encode(hashlib.sha256(self.blob).digest()).decode()
        return f"SHA256:{digest.rstrip('=')}"


def find(name: str, files: Iterable[Path]) -> tuple[HostKey, ...]:
    """Return the keys of the machine with this name: ``host`` or ``[host]:port``."""
    return tuple(key for file in files for key in _find_in(name, file))


def append(file: Path, name: str, key: HostKey) -> None:
    """Add a key: one write under the file's lock, so that no other writer's line is torn."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        line = f"{name} {key.kind} {base64.b64encode(key.blob).decode()}\n"
        os.write(handle, ("" if _ends_whole(handle) else "\n").encode() + line.encode())
        os.fsync(handle)
    finally:
        os.close(handle)


def _ends_whole(handle: int) -> bool:
    size = os.fstat(handle).st_size
    return size == 0 or os.pread(handle, 1, size - 1) == b"\n"


def _find_in(name: str, file: Path) -> Iterator[HostKey]:
    try:
        lines = file.read_text(errors="replace").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return
    for number, line in enumerate(lines, start=1):
        fields = line.split()
        marker = fields.pop(0) if line.startswith("@") else ""
        if marker in ("", _REVOKED) and len(fields) >= 3 and not line.startswith("#") and _matches(name, fields[0]):
            blob = _decoded(fields[2])
            if blob is not None:
                yield HostKey(fields[1], blob, marker == _REVOKED, f"{file}:{number}")


def _decoded(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return None


def _matches(name: str, patterns: str) -> bool:
    if patterns.startswith("|1|"):
        return _matches_hash(name, patterns)
    given = patterns.lower().split(",")
    if any(_matches_pattern(name, pattern[1:]) for pattern in given if pattern.startswith("!")):
        return False
    return any(_matches_pattern(name, pattern) for pattern in given)


def _matches_pattern(name: str, pattern: str) -> bool:
    """Match ``*`` and ``?``; brackets are the ones of ``[host]:port``."""
    return fnmatchcase(name.lower(), pattern.replace("[", "[[]"))


def _matches_hash(name: str, entry: str) -> bool:
    salt, _, digest = entry.removeprefix("|1|").partition("|")
    key, expected = _decoded(salt), _decoded(digest)
    if not key or not expected:
        return False
    return hmac.compare_digest(hmac.new(key, name.encode(), hashlib.sha1).digest(), expected)
