"""What is made once for a party and kept in ``outputs/parties/<id>/``: keys, certificates, secrets.

    tls.key  tls.crt          signing.key  signing.crt          api-token  proxy-secret  mysql-password

A party that keeps a private key to itself has put ``tls.csr`` or ``signing.csr`` there instead of the key.

Owns reading what is kept and making what is missing; writes nothing itself. Does not own issuing (`fedparty.pki`).
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fedparty.crypto import keys
from fedparty.crypto.files import PUBLIC_MODE, SECRET_MODE
from fedparty.errors import CertificateError
from fedparty.pki.authority import Authority, Holder, request_from_pem
from fedparty.pki.holder import public_key_of_holder

_SECRET_BYTES = 32


@dataclass(frozen=True)
class Identity:
    """A certificate and its private key, which is None where the party keeps it to itself."""

    certificate: bytes
    key: bytes | None = field(repr=False)


@dataclass(frozen=True)
class Kept:
    """What is kept for one party."""

    tls: Identity
    signing: Identity
    api_token: bytes = field(repr=False)
    proxy_secret: bytes = field(repr=False)
    mysql_password: bytes | None = field(default=None, repr=False)
    """Of the party's own database server; None: it has none."""


@dataclass(frozen=True)
class NewFile:
    """A file that has to be kept from now on."""

    content: bytes = field(repr=False)
    mode: int
    why: str
    """What people are told; empty for what is simply new."""


class PartyFolder:
    """The kept files of one party, or of the exchange.

    Parameters
    ----------
    folder
        ``outputs/parties/<id>``; may be absent.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.party = folder.name
        self.new: dict[str, NewFile] = {}
        """What was made, by file name: to be written before any bundle uses it."""

    def keep_all(self, authority: Authority, addresses: Sequence[str], *, has_database: bool) -> Kept:
        """Return all that is kept for a party; parameters and errors as in `keep_tls`.

        Parameters
        ----------
        has_database
            Whether its bundle brings a database server.
        """
        return Kept(
            tls=self.keep_tls(authority, addresses),
            signing=self._keep_signing(authority),
            api_token=self._keep_secret("api-token"),
            proxy_secret=self._keep_secret("proxy-secret"),
            mysql_password=self._keep_secret("mysql-password") if has_database else None,
        )

    def keep_tls(self, authority: Authority, addresses: Sequence[str]) -> Identity:
        """Return the TLS identity, made where it is missing or due.

        Parameters
        ----------
        addresses
            Names of the certificate beside the party's own.

        Raises
        ------
        CertificateError
            A kept key, certificate or signing request is damaged; the file is named.
        """
        key, holder = self._holder("tls")
        public_key = public_key_of_holder(self.party, holder)
        kept = self._read("tls.crt")
        why = authority.why_reissue(kept, self.party, public_key, addresses) if kept else ""
        if why or not kept:
            kept = self._take("tls.crt", authority.issue_tls(self.party, holder, addresses), why)
        return Identity(kept, key)

    def _keep_signing(self, authority: Authority) -> Identity:
        key, holder = self._holder("signing")
        public_key = public_key_of_holder(self.party, holder)
        kept = self._read("signing.crt")
        why = authority.why_reissue(kept, self.party, public_key) if kept else ""
        if why or not kept:
            kept = self._take("signing.crt", authority.issue_signing(self.party, holder), why)
        return Identity(kept, key)

    def _take(self, name: str, certificate: bytes, why: str) -> bytes:
        self.new[name] = NewFile(certificate, PUBLIC_MODE, why)
        return certificate

    def _holder(self, purpose: str) -> tuple[bytes | None, Holder]:
        """Return the private key, if it is here, and whom to certify; a new key if there is nothing."""
        where = self.folder / f"{purpose}.key"
        if pem := self._read(f"{purpose}.key"):
            return pem, keys.key_from_pem(pem, where=str(where)).public_key()
        request = self.folder / f"{purpose}.csr"
        if pem := self._read(f"{purpose}.csr"):
            return None, request_from_pem(pem, where=str(request))
        if self._read(f"{purpose}.crt") is not None:
            raise CertificateError(
                f"{where}: the private key of a certificate that was issued is missing",
                hint=f"Restore it, put the party's {request.name} there, or remove {purpose}.crt for a new key.",
            )
        key = keys.generate_key()
        pem = keys.key_to_pem(key)
        self.new[f"{purpose}.key"] = NewFile(pem, SECRET_MODE, "")
        return pem, key.public_key()

    def _keep_secret(self, name: str) -> bytes:
        """Return a random text without a newline: it is used as a header."""
        if kept := self._read(name):
            return kept.strip()
        made = secrets.token_urlsafe(_SECRET_BYTES).encode()
        self.new[name] = NewFile(made, SECRET_MODE, "")
        return made

    def _read(self, name: str) -> bytes | None:
        try:
            return (self.folder / name).read_bytes()
        except FileNotFoundError:
            return None
