"""Certificates: reading them, whose they are, whether they are to be trusted.

Owns the rules by which a certificate is accepted. Does not own issuing (`fedparty.pki`), nor revocation
(`fedparty.crypto.revocations`).
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import verification

from fedparty.errors import CertificateError

DOCUMENT_SIGNING = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.36")
"""Extended key usage of a party's signing certificate (RFC 9336)."""

CLOCK_SKEW_S = 300
"""How far the clocks of two parties may differ: certificates are dated back, and task tokens honoured, by as much."""


def certificate_from_pem(pem: bytes, *, where: str) -> x509.Certificate:
    """Return the first certificate in `pem`.

    Raises
    ------
    CertificateError
        There is none; the message names `where`.
    """
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as exc:
        raise CertificateError(f"{where}: not a certificate in PEM", hint="Restore the file from a backup.") from exc


def read_certificate(path: Path) -> x509.Certificate:
    """Return the certificate in the file `path`.

    Raises
    ------
    CertificateError
        The file is absent or holds no certificate.
    """
    try:
        return certificate_from_pem(path.read_bytes(), where=str(path))
    except FileNotFoundError as exc:
        raise CertificateError(
            f"{path}: there is no such certificate", hint="Run generate_config.py again and deploy."
        ) from exc


def uri_of(certificate: x509.Certificate) -> str:
    """Return the one URI by which a certificate says whose it is.

    Raises
    ------
    CertificateError
        It has none, or several: then it could pass for more than one party.
    """
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except (x509.ExtensionNotFound, ValueError):
        uris = []
    if len(uris) != 1:
        raise CertificateError(f"the certificate names {len(uris)} URIs, not exactly one", hint="Renew it.")
    return str(uris[0])


def public_key_of(certificate: x509.Certificate) -> ec.EllipticCurvePublicKey:
    """Return the EC P-256 public key of a certificate.

    Raises
    ------
    CertificateError
        Its key is of another kind.
    """
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise CertificateError("the certificate's key is not EC P-256", hint="Renew it.")
    return key


def serial_of(certificate: x509.Certificate) -> str:
    """Return the serial number as Envoy and the registry write it: lower-case hexadecimal."""
    return f"{certificate.serial_number:x}"


def is_issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """Return whether `authority` signed `certificate` and is named in it as its issuer."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


class TrustedAuthority:
    """The one CA whose leaf certificates are accepted.

    Parameters
    ----------
    certificate
        The federation CA.
    """

    def __init__(self, certificate: x509.Certificate) -> None:
        self.certificate = certificate
        self._store = verification.Store([certificate])

    def check_signer(self, leaf: x509.Certificate) -> None:
        """Accept `leaf` as a party's signing certificate (RFC 5280 §6; the usage by RFC 9336).

        Raises
        ------
        CertificateError
            Another CA issued it, it is out of its time, or it is not meant for signing.
        """
        try:
            self._policy().build_client_verifier().verify(leaf, [])
        except verification.VerificationError as exc:
            raise CertificateError(self._why_refused(leaf, str(exc)), hint="Renew the party's certificates.") from exc
        usages = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        if list(usages) != [DOCUMENT_SIGNING]:
            raise CertificateError(
                "the certificate is not one for signing",
                hint="Sign with the party's signing key, not with its TLS key.",
            )

    def _policy(self) -> verification.PolicyBuilder:
        """Return the web's rules for a leaf directly below the CA, but for its usage, which the web does not know."""
        leaf_rules = verification.ExtensionPolicy.webpki_defaults_ee().require_present(
            x509.ExtendedKeyUsage, verification.Criticality.AGNOSTIC, None
        )
        authority_rules = verification.ExtensionPolicy.webpki_defaults_ca()
        builder = verification.PolicyBuilder().store(self._store).max_chain_depth(0)
        return builder.extension_policies(ca_policy=authority_rules, ee_policy=leaf_rules)

    def _why_refused(self, leaf: x509.Certificate, otherwise: str) -> str:
        """Return what a person can act on; the verifier itself speaks of the chain only."""
        if not is_issued_by(leaf, self.certificate):
            return "the certificate was not issued by this federation's CA"
        starts, ends = leaf.not_valid_before_utc, leaf.not_valid_after_utc
        if not starts <= datetime.now(UTC) <= ends:
            return f"the certificate is valid only from {starts:%Y-%m-%d %H:%M} to {ends:%Y-%m-%d %H:%M} UTC"
        return f"the certificate cannot be used: {otherwise}"
