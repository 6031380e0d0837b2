"""Renewing what a party has been issued, because its operator asks for it.

Owns issuing again into the party's folder of kept files, ``outputs/parties/<id>/`` (``tls.crt``, ``signing.crt`` and
their keys). Does not own renewal in time, nor new keys: `fedparty.generate` does both whenever it runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from cryptography import x509

from fedparty.crypto.certificates import public_key_of, read_certificate
from fedparty.crypto.files import replace_file
from fedparty.errors import CertificateError
from fedparty.pki.authority import Authority
from fedparty.pki.profiles import host_names_of
from fedparty.pki.registry import SIGNING, TLS


def renew(authority: Authority, folders: Mapping[str, Path]) -> None:
    """Issue parties' certificates again, for the keys and addresses that they have; a revoked party is let in again.

    Parameters
    ----------
    folders
        By party id: where its files are kept.

    Raises
    ------
    CertificateError
        A party has none, or its key was revoked as compromised; then nothing was renewed.
    """
    with authority:
        issued = {
            path: _issue_again(authority, party, path, read_certificate(path))
            for party, folder in folders.items()
            for path in _kept(party, folder)
        }
    for path, certificate in issued.items():
        replace_file(path, certificate)


def forget_keys(folders: Mapping[str, Path]) -> None:
    """Remove parties' certificates and the keys kept here: the next run of the generator makes new ones.

    Raises
    ------
    CertificateError
        A party has no certificates; then nothing was removed.
    """
    for path in [path for party, folder in folders.items() for path in _kept(party, folder)]:
        path.unlink()
        path.with_suffix(".key").unlink(missing_ok=True)


def _kept(party: str, folder: Path) -> list[Path]:
    found = [path for path in (folder / f"{TLS}.crt", folder / f"{SIGNING}.crt") if path.exists()]
    if not found:
        raise CertificateError(
            f"party {party}: no certificate is kept for it in {folder}", hint="`fedparty pki list` shows who has one."
        )
    return found


def _issue_again(authority: Authority, party: str, path: Path, certificate: x509.Certificate) -> bytes:
    key = public_key_of(certificate)
    if path.stem == SIGNING:
        return authority.issue_signing(party, key)
    return authority.issue_tls(party, key, sorted(host_names_of(certificate)))
