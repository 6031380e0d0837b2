"""The book of every certificate that the CA issued: ``outputs/ca/registry.json``.

Owns the entries, their file, and the lock by which one operator at a time writes it. Does not own issuing.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fedparty.crypto.files import SECRET_MODE, replace_file
from fedparty.errors import CertificateError
from fedparty.pki.profiles import Revoked

TLS, SIGNING = "tls", "signing"
KEY_COMPROMISE = "key_compromise"
_FORMAT = 1


@dataclass(frozen=True)
class IssuedCertificate:
    """One certificate in the book; times are UTC."""

    serial: str
    """Lower-case hexadecimal."""
    party: str
    """Party id, or ``exchange``."""
    purpose: str
    """`TLS` or `SIGNING`."""
    not_before: datetime
    not_after: datetime
    sha256: str
    """Of the certificate's DER form."""
    key_sha256: str
    """Of its public key (SubjectPublicKeyInfo, DER)."""
    revoked_at: datetime | None = None
    reason: str | None = None

    def state(self, now: datetime) -> str:
        """Return ``valid``, ``expired`` or ``revoked``."""
        if self.revoked_at is not None:
            return "revoked"
        return "valid" if now <= self.not_after else "expired"

    def as_json(self) -> dict[str, Any]:
        """Return the entry with its times in ISO 8601."""
        return {name: _text(value) for name, value in asdict(self).items()}


class Registry:
    """The book, in memory; `save` writes it as a whole.

    Parameters
    ----------
    path
        Its file; absent: an empty book.
    is_required
        It was written before: without it, nobody knows who was revoked.

    Raises
    ------
    CertificateError
        The file is damaged or of a later format, or required and absent.
    """

    def __init__(self, path: Path, *, is_required: bool = False) -> None:
        if is_required and not path.exists():
            raise book_is_behind(f"{path}: there is no such file")
        self._path = path
        self._entries: dict[str, IssuedCertificate] = {}
        self._compromised: set[str] = set()
        self._is_changed = False
        self.reload()

    def reload(self) -> None:
        """Forget what was not saved, and read the file again."""
        self._entries, self._compromised = {}, set()
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            content = None
        for entry in _parse(content, self._path) if content is not None else ():
            self.add(entry)
        self._is_changed = False

    def save(self) -> None:
        """Replace the file, if anything changed; write it, if there is none."""
        if not self._is_changed and self._path.exists():
            return
        entries = [json.dumps(entry.as_json()) for entry in self._entries.values()]
        lines = ",\n".join(entries)
        replace_file(self._path, f'{{"format": {_FORMAT}, "certificates": [\n{lines}\n]}}\n'.encode(), mode=SECRET_MODE)
        self._is_changed = False

    def add(self, entry: IssuedCertificate) -> None:
        """Enter a certificate."""
        self._entries[entry.serial] = entry
        if entry.reason == KEY_COMPROMISE:
            self._compromised.add(entry.key_sha256)
        self._is_changed = True

    def revoke(self, entries: Iterable[IssuedCertificate], at: datetime, reason: str) -> list[IssuedCertificate]:
        """Mark the entries as revoked and return them as they are now."""
        revoked = [replace(entry, revoked_at=at, reason=reason) for entry in entries]
        for entry in revoked:
            self.add(entry)
        return revoked

    def is_compromised(self, key_sha256: str) -> bool:
        """Return whether a certificate for this public key was revoked because others have the private one."""
        return key_sha256 in self._compromised

    def find(self, serial: str) -> IssuedCertificate | None:
        """Return the certificate with this serial number (hexadecimal), or None."""
        return self._entries.get(serial)

    def revoked(self, now: datetime) -> list[Revoked]:
        """Return what a revocation list has to name: what has expired needs no revocation."""
        return [
            Revoked(int(entry.serial, 16), entry.revoked_at, entry.reason or "unspecified")
            for entry in self._entries.values()
            if entry.revoked_at is not None and entry.not_after >= now
        ]

    def all(self) -> list[IssuedCertificate]:
        """Return every certificate, in the order of issue."""
        return list(self._entries.values())


class OperatorLock:
    """Keeps a second operator out while the first changes the CA's folder. Held by one process; freed by its death."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    def acquire(self) -> None:
        """Take the lock at once.

        Raises
        ------
        CertificateError
            Somebody else has it.
        """
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, SECRET_MODE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            os.close(descriptor)
            raise CertificateError(
                f"{self._path.parent}: another command is issuing or revoking certificates here",
                hint="Wait until it has ended, then run this one again.",
            ) from exc
        self._descriptor = descriptor

    def release(self) -> None:
        """Give the lock back."""
        os.close(self._descriptor)
        self._descriptor = -1


def book_is_behind(what: str) -> CertificateError:
    """Return the error for a book that lacks what was issued, and so perhaps what was revoked."""
    return CertificateError(
        f"{what}: the book of issued certificates is gone or an old one, and with it what was revoked",
        hint="Restore the CA's folder from its newest backup; without one: docs/pki.md, When something is lost.",
    )


def _parse(content: bytes, path: Path) -> list[IssuedCertificate]:
    try:
        book = json.loads(content)
        if book["format"] != _FORMAT:
            raise ValueError(f"its format is {book['format']}, this release reads {_FORMAT}")
        return [_entry(**record) for record in book["certificates"]]
    except (ValueError, KeyError, TypeError) as exc:
        raise CertificateError(
            f"{path}: the book of issued certificates cannot be read: {exc}", hint="Restore the file from a backup."
        ) from exc


def _entry(**record: Any) -> IssuedCertificate:
    for name in ("not_before", "not_after", "revoked_at"):
        if record.get(name) is not None:
            record[name] = datetime.fromisoformat(record[name])
    return IssuedCertificate(**record)


def _text(value: object) -> object:
    return value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value
