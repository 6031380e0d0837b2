"""Who submitted a job: the user's signature, and the party's countersignature on top (JWS; RFC 7515, RFC 8037).

    user      EdDSA by the user's registered key:
              aud "fedparty-submission", iss user, party, sha256 of the description's text, iat, exp, jti
    voucher   ES256 by the party's signing certificate (`x5c`), which travels with the job:
              aud "fedparty-voucher", iss party's URI, job, user, role, sha256, vouched_at; where the user signed, key
              and signature

Owns both forms and their checks. Does not own whether a nonce was used, nor whose key is registered.

The description's text names every party of the job with its role, so its hash covers them. The audience keeps a
signature from being taken for one of another kind.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from fedparty.crypto.certificates import CLOCK_SKEW_S
from fedparty.crypto.tokens import TokenSigner, TokenVerifier
from fedparty.crypto.user_keys import read_public_key
from fedparty.errors import CertificateError, TokenError
from fedparty.types import JobId, PartyId, initiator_of

MAX_LIFETIME_S = 3600.0
"""How long a user's signature may be submitted; the job may then run longer."""

LIFETIME_S = 300.0
"""How long it may by default: a person's command sends it at once."""

_USER, _VOUCHER = "fedparty-submission", "fedparty-voucher"
_ALGORITHM = "EdDSA"
_MAX_LENGTH = 4096
_NAME = re.compile(r"[a-z0-9._-]{1,40}")
_AGAIN = "Sign and submit again; compare the clocks of the two machines."
_REASONS: dict[type[jwt.PyJWTError], str] = {
    jwt.ExpiredSignatureError: "it has expired",
    jwt.InvalidAudienceError: "it is a signature of another kind",
    jwt.InvalidIssuerError: "it is another user's",
    jwt.MissingRequiredClaimError: "it lacks a claim",
    jwt.InvalidAlgorithmError: f"it is not signed with {_ALGORITHM}",
    jwt.InvalidSignatureError: "it was not made with the user's registered key",
    jwt.PyJWTError: "it cannot be read",
}


@dataclass(frozen=True)
class SignedSubmission:
    """What a user signed. Times are seconds since the epoch."""

    user: str
    party: str
    digest: str
    nonce: str
    issued_at: float
    expires_at: float


@dataclass(frozen=True)
class Voucher:
    """Who submitted a job, as their party vouches.

    Parameters
    ----------
    user, user_role
        As their party knows them.
    is_signed
        Whether the user's own signature is in it, and fits.
    """

    job: JobId
    user: str
    user_role: str
    is_signed: bool

    @property
    def submitter(self) -> str:
        """How people read it, e.g. ``alice@10000 (signed)``."""
        return f"{self.user}@{initiator_of(self.job)} ({'signed' if self.is_signed else 'token'})"


def sign(key: Ed25519PrivateKey, user: str, party: str, text: bytes, lifetime_s: float = LIFETIME_S) -> str:
    """Return a user's signature of what they submit.

    Parameters
    ----------
    text
        The description, the very bytes that are sent.
    """
    now = time.time()
    claims = {
        "aud": _USER, "iss": user, "party": party, "sha256": _digest(text), "iat": int(now),
        "exp": int(now + lifetime_s), "jti": secrets.token_urlsafe(24),
    }  # fmt: skip
    return jwt.encode(claims, key, algorithm=_ALGORITHM)


def check(signature: str, public_key: str, user: str, party: str, text: bytes) -> SignedSubmission:
    """Return what a user signed, now, for this party.

    Raises
    ------
    TokenError
        It was not made with that key, is for another party or another text, or is out of its time.
    """
    signed = _read(signature, public_key, user, is_time_checked=True)
    if signed.issued_at > time.time() + CLOCK_SKEW_S:
        raise _refused("it is dated in the future")
    _check_content(signed, party, _digest(text))
    return signed


def vouch(
    signer: TokenSigner, voucher: Voucher, text: bytes, public_key: str, signature: str, lifetime_s: float
) -> str:
    """Return the countersignature that travels with a job."""
    claims: dict[str, Any] = {
        "job": voucher.job, "user": voucher.user, "role": voucher.user_role, "sha256": _digest(text),
    }  # fmt: skip
    if voucher.is_signed:
        claims |= {"key": public_key, "signature": signature}
    return signer.sign(_VOUCHER, claims | {"vouched_at": int(time.time())}, lifetime_s)


def check_voucher(verifier: TokenVerifier, text: str, job: JobId, description: bytes) -> Voucher:
    """Return who submitted a job.

    Raises
    ------
    TokenError
        The initiator did not sign that, or its certificate is not to be trusted; or the user's signature does not fit.
    """
    party = initiator_of(job)
    claims = verifier.signed(text, issuer=party, audience=_VOUCHER)
    user, role, key = (claims.get(name, "") for name in ("user", "role", "key"))
    if not all(isinstance(each, str) and len(each) <= 100 for each in (user, role, key)) or not _NAME.fullmatch(user):
        raise _refused("it does not name a user")
    if (claims.get("job"), claims.get("sha256")) != (job, _digest(description)):
        raise _refused("it is of another job")
    if "signature" in claims:
        _check_inner(str(claims["signature"]), key, user, party, claims)
    return Voucher(job, user, role, "signature" in claims)


def read_voucher(text: str, job: JobId) -> Voucher:
    """Return what a voucher says that `check_voucher` accepted before; it may have expired since.

    Raises
    ------
    TokenError
        It cannot be read.
    """
    try:
        claims = jwt.decode(text, options={"verify_signature": False})
        return Voucher(job, claims["user"], claims["role"], "signature" in claims)
    except (jwt.PyJWTError, KeyError) as exc:
        raise _refused("it cannot be read") from exc


def _check_inner(signature: str, key: str, user: str, party: PartyId, claims: Mapping[str, Any]) -> None:
    """Check the user's signature as it was when the party took it: a job may run for days."""
    signed = _read(signature, key, user, is_time_checked=False)
    _check_content(signed, party, str(claims["sha256"]))
    at = claims.get("vouched_at")
    if not isinstance(at, int) or not signed.issued_at - CLOCK_SKEW_S <= at <= signed.expires_at + CLOCK_SKEW_S:
        raise _refused("it had expired when the party took it")


def _check_content(signed: SignedSubmission, party: str, digest: str) -> None:
    if signed.party != party:
        raise _refused(f"it is for party {signed.party[:20]}, not for party {party}")
    if signed.digest != digest:
        raise _refused("it is of another description")
    if not 0 < signed.expires_at - signed.issued_at <= MAX_LIFETIME_S:
        raise _refused(f"it is meant to last longer than {MAX_LIFETIME_S:.0f} s")


def _read(signature: str, public_key: str, user: str, *, is_time_checked: bool) -> SignedSubmission:
    if len(signature) > _MAX_LENGTH:
        raise _refused(f"it is longer than {_MAX_LENGTH} characters")
    try:
        claims = jwt.decode(
            signature,
            _key(public_key),
            algorithms=[_ALGORITHM],
            audience=_USER,
            issuer=user,
            options={
                "require": ["aud", "iss", "iat", "exp", "jti"], "strict_aud": True,
                "verify_iat": False, "verify_exp": is_time_checked,
            },
        )  # fmt: skip
        issued_at, expires_at = float(claims["iat"]), float(claims["exp"])
        party, digest, nonce = (str(claims[name]) for name in ("party", "sha256", "jti"))
    except jwt.PyJWTError as exc:
        raise _refused(next(words for kind, words in _REASONS.items() if isinstance(exc, kind))) from exc
    except (KeyError, ValueError, TypeError, OverflowError) as exc:
        raise _refused("it lacks a claim") from exc
    if not 16 <= len(nonce) <= 64:
        raise _refused("its nonce is not of 16 to 64 characters")
    return SignedSubmission(user, party, digest, nonce, issued_at, expires_at)


def _key(text: str) -> Ed25519PublicKey:
    try:
        key = read_public_key(text)
    except CertificateError as exc:
        raise _refused(exc.message) from exc
    if key is None:
        raise _refused("no key is registered for this user")
    return key


def _digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()


def _refused(why: str) -> TokenError:
    return TokenError(f"signature of the submission refused: {why}", hint=_AGAIN)
