"""What a proxy shows to the others, whom it trusts, and why it would refuse one of them.

Owns the reading of a bundle's ``sds_identity.json`` and ``sds_trust.json`` and the rules by which Envoy judges. Does
not own issuing, nor what a refusal means for a federation.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509

from fedparty.crypto.certificates import certificate_from_pem, is_issued_by, serial_of, uri_of
from fedparty.errors import CertificateError

EXPIRED, NOT_YET_VALID, FOREIGN, REVOKED, MISNAMED, STALE_LIST = (
    "expired", "not yet valid", "another CA", "revoked", "wrong name", "stale revocation list",
)  # fmt: skip


@dataclass(frozen=True)
class Refusal:
    """Why a certificate is refused.

    Attributes
    ----------
    kind
        One of this module's words.
    is_judges_fault
        Whether the proxy that refuses is to be mended, and not the one that is refused.
    """

    kind: str
    text: str
    is_judges_fault: bool = False


@dataclass(frozen=True)
class ProxyTrust:
    """The live TLS files of one proxy."""

    certificate: x509.Certificate
    authority: x509.Certificate
    revocations: x509.CertificateRevocationList

    def days_left(self, now: float) -> float:
        """Return for how many days its certificate is still valid."""
        return (self.certificate.not_valid_after_utc.timestamp() - now) / 86400

    def why_refused(self, other: ProxyTrust, uri: str, now: float) -> Refusal | None:
        """Return why this proxy refuses another one's certificate; None: it does not.

        Parameters
        ----------
        uri
            Whose certificate it must be; empty: anybody's.
        now
            By this proxy's clock, seconds since the epoch.
        """
        shown, at = other.certificate, datetime.fromtimestamp(now, UTC)
        name = f"the TLS certificate {serial_of(shown)} of {_owner(shown)}"
        if not is_issued_by(shown, self.authority):
            return Refusal(FOREIGN, f"{name} is of another federation's CA")
        if at > shown.not_valid_after_utc:
            return Refusal(EXPIRED, f"{name} expired at {shown.not_valid_after_utc:%Y-%m-%d %H:%M} UTC")
        if at < shown.not_valid_before_utc:
            return Refusal(NOT_YET_VALID, f"{name} is not valid before {shown.not_valid_before_utc:%Y-%m-%d %H:%M} UTC")
        if self.revocations.get_revoked_certificate_by_serial_number(shown.serial_number) is not None:
            return Refusal(REVOKED, f"{name} is revoked")
        if self.revocations.next_update_utc is not None and at > self.revocations.next_update_utc:
            return Refusal(STALE_LIST, "the revocation list is too old: everybody is refused", is_judges_fault=True)
        if uri and _owner(shown) != uri:
            return Refusal(MISNAMED, f"{name} is not that of {uri}")
        return None


def read_trust(identity: bytes, trust: bytes) -> ProxyTrust:
    """Read the content of a proxy's two live files.

    Raises
    ------
    CertificateError
        They cannot be read.
    """
    try:
        shown = json.loads(identity)["resources"][0]["tls_certificate"]["certificate_chain"]["inline_string"]
        trusted = json.loads(trust)["resources"][0]["validation_context"]
        authority, revoked = trusted["trusted_ca"]["inline_string"], trusted["crl"]["inline_string"]
        return ProxyTrust(
            certificate_from_pem(shown.encode(), where="sds_identity.json"),
            certificate_from_pem(authority.encode(), where="sds_trust.json"),
            x509.load_pem_x509_crl(revoked.encode()),
        )
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as exc:
        hint = "Run generate_config.py again and deploy the party."
        raise CertificateError("the proxy's TLS files cannot be read", hint=hint) from exc


def _owner(certificate: x509.Certificate) -> str:
    try:
        return uri_of(certificate)
    except CertificateError:
        return "nobody"
