"""The newest certificate revocation list, kept in a file so that it stays the same until it has to change.

Owns when a new list is due, and its number. Does not own what is revoked (`fedparty.pki.registry`).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509

from fedparty.crypto.files import replace_file
from fedparty.pki.profiles import Issuer, Revoked, build_revocations


class RevocationList:
    """The list of one CA.

    Parameters
    ----------
    path
        Its file, PEM.
    issuer
        The CA.
    refresh_age
        An older list is due even if nothing was revoked.
    """

    def __init__(self, path: Path, issuer: Issuer, refresh_age: timedelta) -> None:
        self._path = path
        self._issuer = issuer
        self._refresh_age = refresh_age

    def current(self, revoked: Iterable[Revoked], now: datetime) -> bytes | None:
        """Return the kept list, or None if it lacks one of `revoked`, is too old, or is not there."""
        kept = self._kept()
        if kept is None or now - kept.last_update_utc > self._refresh_age:
            return None
        listed = {entry.serial_number for entry in kept}
        return self._path.read_bytes() if listed.issuperset(entry.serial for entry in revoked) else None

    def issue(self, revoked: Iterable[Revoked], now: datetime) -> bytes:
        """Write and return a new list."""
        pem = build_revocations(self._issuer, revoked, self._next_number(now), now)
        replace_file(self._path, pem)
        return pem

    def _next_number(self, now: datetime) -> int:
        """Return a number above all earlier ones, even if the file was lost: seconds since the epoch, or one more."""
        kept = self._kept()
        last = kept.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number if kept else 0
        return max(last + 1, int(now.timestamp()))

    def _kept(self) -> x509.CertificateRevocationList | None:
        try:
            kept = x509.load_pem_x509_crl(self._path.read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        return kept if kept.is_signature_valid(self._issuer.key.public_key()) else None
