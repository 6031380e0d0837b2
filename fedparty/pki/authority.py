"""The federation's certificate authority, kept by its operator in ``outputs/ca/``.

    ca.key         0600, never leaves this folder      ca.crt   what every party trusts
    registry.json  every certificate issued            crl.pem  the newest revocation list

Owns issuing, revoking and signing. Does not own the private keys of parties, nor the bundles.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fedparty.crypto import keys
from fedparty.crypto.certificates import certificate_from_pem, is_issued_by, public_key_of, serial_of
from fedparty.crypto.files import make_private_folder
from fedparty.crypto.fingerprint import fingerprint_of, fingerprint_of_certificate
from fedparty.errors import CertificateError
from fedparty.pki.ca_folder import create, read
from fedparty.pki.holder import Holder, key_digest, public_key_of_holder, request_from_pem
from fedparty.pki.manifest import signed_payload
from fedparty.pki.profiles import (
    Issuer,
    build_signing_leaf,
    build_tls_leaf,
    host_names_of,
    needs_renewal,
    tls_host_names,
)
from fedparty.pki.registry import SIGNING, TLS, IssuedCertificate, OperatorLock, Registry, book_is_behind
from fedparty.pki.revocation_list import RevocationList

__all__ = ["Authority", "Holder", "fingerprint_of", "needs_renewal", "request_from_pem"]

LEAF_LIFETIME_DAYS = 365
CA_LIFETIME_DAYS = 3650
CRL_REFRESH_DAYS = 30


class Authority:
    """Issues, revokes and signs for one federation; get it by `open_or_create`.

    Each change is written at once. Inside ``with authority:`` all changes are written together at its end, or none of
    them, and a second operator is kept out. Put what was issued into bundles only after that block: a certificate that
    is not in the registry could not be revoked.
    """

    def __init__(
        self,
        folder: Path,
        federation: str,
        issuer: Issuer,
        *,
        lifetime_days: float = LEAF_LIFETIME_DAYS,
        crl_refresh_days: float = CRL_REFRESH_DAYS,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        self.federation = federation
        self._issuer = issuer
        self._lifetime = timedelta(days=lifetime_days)
        self._clock = clock or _now
        self._revocation_list = RevocationList(folder / "crl.pem", issuer, timedelta(days=crl_refresh_days))
        self._registry = Registry(folder / "registry.json", is_required=(folder / "crl.pem").exists())
        self._lock = OperatorLock(folder / ".lock")
        self._depth = 0

    @classmethod
    def open_or_create(
        cls,
        folder: Path,
        federation: str,
        lifetime_days: float = LEAF_LIFETIME_DAYS,
        *,
        ca_lifetime_days: float = CA_LIFETIME_DAYS,
        crl_refresh_days: float = CRL_REFRESH_DAYS,
        clock: Callable[[], datetime] | None = None,
    ) -> Authority:
        """Return the CA kept in `folder`, made if there is none.

        Parameters
        ----------
        lifetime_days
            Of the certificates of parties, from issue.
        ca_lifetime_days
            Of the CA, if it is made now.
        crl_refresh_days
            A revocation list older than this is issued again by the next run.
        clock
            What tells the time (UTC).

        Raises
        ------
        CertificateError
            The folder holds another federation's CA, an expired one, or only parts of one.
        """
        make_private_folder(folder)
        if not (folder / "ca.crt").exists():
            create(folder, federation, (clock or _now)(), timedelta(days=ca_lifetime_days))
        return cls.open(folder, federation, lifetime_days=lifetime_days, crl_refresh_days=crl_refresh_days, clock=clock)

    @classmethod
    def open(
        cls,
        folder: Path,
        federation: str | None = None,
        *,
        lifetime_days: float = LEAF_LIFETIME_DAYS,
        crl_refresh_days: float = CRL_REFRESH_DAYS,
        clock: Callable[[], datetime] | None = None,
    ) -> Authority:
        """Return the CA kept in `folder`; parameters and errors as in `open_or_create`.

        Parameters
        ----------
        federation
            Whose CA it has to be; None: whosever it is.
        """
        issuer, owner = read(folder, (clock or _now)())
        if federation not in (None, owner):
            raise CertificateError(
                f"{folder}: this is the CA of the federation {owner!r}, not of {federation!r}",
                hint="Give this federation an output folder of its own (-o).",
            )
        return cls(folder, owner, issuer, lifetime_days=lifetime_days, crl_refresh_days=crl_refresh_days, clock=clock)

    @property
    def fingerprint(self) -> str:
        """What the parties compare out of band."""
        return fingerprint_of_certificate(self._issuer.certificate)

    @property
    def certificate_pem(self) -> bytes:
        """The CA's certificate."""
        return self._issuer.certificate.public_bytes(serialization.Encoding.PEM)

    def __enter__(self) -> Self:
        if self._depth == 0:
            self._lock.acquire()
            self._registry.reload()
        self._depth += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._depth -= 1
        if self._depth:
            return
        try:
            if error is None:
                self._registry.save()
            else:
                self._registry.reload()
        finally:
            self._lock.release()

    def issue_tls(self, party: str, holder: Holder, addresses: Sequence[str] = ()) -> bytes:
        """Return a new TLS certificate in PEM.

        Parameters
        ----------
        party
            Its id, or ``exchange``.
        holder
            Its public key or signing request; the names that a request asks for are ignored.
        addresses
            IP addresses and host names under which its own people reach it.

        Raises
        ------
        CertificateError
            The request is not signed with its own key, the key is not EC P-256 or was revoked as compromised, or an
            address is not one.
        """
        key, now = self._certifiable(party, holder), self._clock()
        try:
            leaf = build_tls_leaf(self._issuer, self.federation, party, key, addresses, now, self._lifetime)
        except ValueError as exc:
            raise CertificateError(f"party {party}: {exc}", hint="Correct its address in parties.conf.") from exc
        return self._enter(leaf, party, TLS)

    def issue_signing(self, party: str, holder: Holder) -> bytes:
        """Return a new signing certificate in PEM; parameters and errors as in `issue_tls`."""
        key, now = self._certifiable(party, holder), self._clock()
        leaf = build_signing_leaf(self._issuer, self.federation, party, key, now, self._lifetime)
        return self._enter(leaf, party, SIGNING)

    def revoke(self, target: str, reason: str = "unspecified") -> list[IssuedCertificate]:
        """Revoke one certificate by its serial number, or every valid one of a party; return those revoked now.

        Parameters
        ----------
        reason
            The name of an `x509.ReasonFlags`.

        Raises
        ------
        CertificateError
            `target` is neither a serial number nor a party in the registry.
        """
        with self:
            known = self._find(target)
            valid = [entry for entry in known if entry.state(self._clock()) == "valid"]
            return self._registry.revoke(valid, self._clock(), x509.ReasonFlags[reason].name)

    def certificates(self) -> list[IssuedCertificate]:
        """Return every certificate issued, in the order of issue."""
        return self._registry.all()

    def crl_pem(self) -> bytes:
        """Return the revocation list: the kept one, byte for byte, unless something was revoked or a refresh is due."""
        now = self._clock()
        if kept := self._revocation_list.current(self._registry.revoked(now), now):
            return kept
        with self:
            self._registry.save()  # first: a list must never name what the registry does not know
            return self._revocation_list.issue(self._registry.revoked(now), now)

    def sign(self, manifest: bytes) -> bytes:
        """Return the signature of a manifest (`fedparty.pki.manifest`), the same one each time."""
        return keys.sign(self._issuer.key, signed_payload(manifest))

    def why_reissue(
        self,
        certificate: bytes,
        party: str,
        public_key: ec.EllipticCurvePublicKey,
        addresses: Sequence[str] | None = None,
    ) -> str:
        """Return why a kept certificate must be issued again, or ``""``.

        A revoked certificate stays: only the operator, by `fedparty pki renew`, lets its party in again.

        Parameters
        ----------
        public_key
            The key that the party has now.
        addresses
            As in `issue_tls`; None for a signing certificate.

        Raises
        ------
        CertificateError
            This CA issued it, and the registry does not know it.
        """
        leaf = certificate_from_pem(certificate, where=f"party {party}: kept certificate")
        entry = self._registry.find(serial_of(leaf))
        if entry is None and is_issued_by(leaf, self._issuer.certificate):
            raise book_is_behind(f"party {party}: it does not know the certificate {serial_of(leaf)}")
        if entry is None or entry.sha256 != leaf.fingerprint(hashes.SHA256()).hex() or entry.party != party:
            return "this CA did not issue it"
        if public_key_of(leaf) != public_key:
            return "the party's key changed"
        if entry.revoked_at is not None:
            return ""
        if addresses is not None and host_names_of(leaf) != set(tls_host_names(self.federation, party, addresses)):
            return "the party's addresses changed"
        return f"it ends on {leaf.not_valid_after_utc:%Y-%m-%d}" if self._needs_renewal(leaf) else ""

    def _needs_renewal(self, leaf: x509.Certificate) -> bool:
        can_last_longer = leaf.not_valid_after_utc < self._issuer.certificate.not_valid_after_utc
        return can_last_longer and needs_renewal(leaf, self._clock())

    def _certifiable(self, party: str, holder: Holder) -> ec.EllipticCurvePublicKey:
        key = public_key_of_holder(party, holder)
        if self._registry.is_compromised(key_digest(key)):
            raise CertificateError(
                f"party {party}: its key was revoked as compromised and is never certified again",
                hint=f"Give it new keys: fedparty pki renew {party} --new-keys (or a new signing request).",
            )
        return key

    def _enter(self, leaf: x509.Certificate, party: str, purpose: str) -> bytes:
        entry = IssuedCertificate(
            serial=serial_of(leaf),
            party=party,
            purpose=purpose,
            not_before=leaf.not_valid_before_utc,
            not_after=leaf.not_valid_after_utc,
            sha256=leaf.fingerprint(hashes.SHA256()).hex(),
            key_sha256=key_digest(public_key_of(leaf)),
        )
        with self:
            self._registry.add(entry)
        return leaf.public_bytes(serialization.Encoding.PEM)

    def _find(self, target: str) -> list[IssuedCertificate]:
        of_party = [entry for entry in self._registry.all() if entry.party == target]
        by_serial = self._registry.find(target.lower().replace(":", "").lstrip("0"))
        if found := of_party or ([by_serial] if by_serial else []):
            return found
        raise CertificateError(
            f"{target}: no party and no certificate has this name", hint="`fedparty pki list` shows what was issued."
        )


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
