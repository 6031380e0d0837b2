"""Tokens: what a task or a service shows to be let in (JWT, ES256; RFC 7519, RFC 7515 §4.1.6 for `x5c`).

    task      a worker's task, for one role in one attempt; accepted by mailboxes of every party
    service   a party's own flow, for one scope, at its own services only

Owns making and checking tokens. Does not own how they travel (metadata of the calls) nor what they allow.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fedparty.crypto.certificates import (
    CLOCK_SKEW_S,
    TrustedAuthority,
    public_key_of,
    read_certificate,
    serial_of,
    uri_of,
)
from fedparty.crypto.keys import read_key
from fedparty.crypto.leaving import Leaving
from fedparty.crypto.revocations import Revocations
from fedparty.errors import CertificateError, TokenError
from fedparty.types import TASK_NAME, Member, PartyId, TaskRun, parse_job_id, party_uri

logger = logging.getLogger(__name__)

_ALGORITHM = "ES256"
_TASK, _SERVICE = "task", "service"
_MAX_TOKEN_LENGTH = 8192
_MAX_CACHED_LEAVES = 1024
_MAX_CACHED_TOKENS = 1024
_REASONS: dict[type[jwt.PyJWTError], str] = {
    jwt.ExpiredSignatureError: "it has expired",
    jwt.InvalidAudienceError: "it is a token of another kind",
    jwt.InvalidIssuerError: "it names another party than its certificate does",
    jwt.MissingRequiredClaimError: "it lacks its expiry, its issuer or its kind",
    jwt.InvalidAlgorithmError: f"it is not signed with {_ALGORITHM}",
    jwt.InvalidSignatureError: "its signature is wrong",
    jwt.PyJWTError: "it cannot be read",
}
"""By the first kind that fits."""
_NEW_TOKEN = "Ask for a new token; if that is refused too, compare the clocks of the two machines."


ANYTHING = Leaving()


@dataclass(frozen=True)
class TaskClaims:
    """What a task token says: its bearer is `member` in `run`, until `expires_at` (seconds since the epoch)."""

    run: TaskRun
    member: Member
    expires_at: float
    leaving: Leaving = ANYTHING


@dataclass(frozen=True)
class ServiceClaims:
    """What a service token says: its bearer is `party`'s own service, for `scope`, until `expires_at`.

    `epoch` is that of the flow that leads, 0 of a flow without replicas.
    """

    party: PartyId
    scope: str
    expires_at: float
    epoch: int = 0


class TokenSigner:
    """Signs tokens in the name of a party.

    Parameters
    ----------
    key_file
        The party's signing key, PEM.
    certificate_file
        Its signing certificate, PEM: a live file, re-read when it was replaced.
    federation, party
        Whom the certificate must name.
    epoch
        In which the party's flow leads; 0: it has no replicas.

    Raises
    ------
    CertificateError
        Key or certificate cannot be read, do not belong together, or name somebody else. A bad certificate that
        replaces a good one is logged and ignored.
    """

    def __init__(self, key_file: Path, certificate_file: Path, federation: str, party: PartyId, epoch: int = 0) -> None:
        self._epoch = epoch
        self._key = read_key(key_file)
        self._certificate_file = certificate_file
        self._party = party
        self._issuer = party_uri(federation, party)
        self._headers: dict[str, Any] = {}
        self._service_tokens: dict[tuple[str, float], tuple[float, str]] = {}
        self._stamp = self._read_stamp()
        self._take_over(read_certificate(certificate_file))

    def task(self, run: TaskRun, member: Member, lifetime_s: float, leaving: Leaving = ANYTHING) -> str:
        """Return a token for one role of this party in one attempt of a task, which may send no more than `leaving`.

        Raises
        ------
        ValueError
            `member` is a role of another party.
        """
        if member.party != self._party:
            raise ValueError(f"party {self._party} cannot sign for {member}")
        claims = {"aud": _TASK, "job": run.job, "task": run.task, "attempt": run.attempt, "role": member.role}
        limits = leaving.to_claims()
        return self._sign(claims | ({"leaving": limits} if limits else {}), lifetime_s)

    def service(self, scope: str, lifetime_s: float = 300) -> str:
        """Return a token for this party's own services; the same one until half its life is over."""
        self._refresh()
        renew_at, token = self._service_tokens.get((scope, lifetime_s), (0.0, ""))
        now = time.time()
        if now >= renew_at:
            epoch = {"epoch": self._epoch} if self._epoch else {}
            token = self._sign({"aud": _SERVICE, "scope": scope, **epoch}, lifetime_s)
            self._service_tokens[scope, lifetime_s] = (now + lifetime_s / 2, token)
        return token

    def sign(self, audience: str, claims: dict[str, Any], lifetime_s: float) -> str:
        """Return claims of another kind than tokens, signed in this party's name."""
        return self._sign({"aud": audience, **claims}, lifetime_s)

    def _sign(self, claims: dict[str, Any], lifetime_s: float) -> str:
        self._refresh()
        now = time.time()
        claims |= {"iss": self._issuer, "iat": int(now), "exp": math.ceil(now + lifetime_s)}
        return jwt.encode(claims, self._key, algorithm=_ALGORITHM, headers=self._headers)

    def _refresh(self) -> None:
        """Take over a replaced certificate; one that cannot be used leaves the former in force, as at the proxy."""
        stamp = self._read_stamp()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._take_over(read_certificate(self._certificate_file))
        except CertificateError as exc:
            logger.error("%s; the certificate read before stays in use", exc)

    def _take_over(self, certificate: x509.Certificate) -> None:
        """Use `certificate` from now on; tokens signed under the former one are not handed out again."""
        self._check(certificate)
        der = certificate.public_bytes(serialization.Encoding.DER)
        self._headers = {"x5c": [base64.b64encode(der).decode()]}
        self._service_tokens.clear()

    def _read_stamp(self) -> tuple[int, int] | None:
        try:
            status = self._certificate_file.stat()
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_mtime_ns

    def _check(self, certificate: x509.Certificate) -> None:
        if public_key_of(certificate) != self._key.public_key():
            raise CertificateError(
                f"{self._certificate_file}: the certificate is not for this party's signing key",
                hint="Run generate_config.py again and deploy the party.",
            )
        if uri_of(certificate) != self._issuer:
            raise CertificateError(
                f"{self._certificate_file}: the certificate names {uri_of(certificate)}, not {self._issuer}",
                hint="Deploy the bundle of this party.",
            )


@dataclass(frozen=True)
class _Signer:
    """A certificate that passed every check but time and revocation, which are looked at each time."""

    uri: str
    serial: str
    key: ec.EllipticCurvePublicKey
    ends_at: float


@dataclass(frozen=True)
class _Verified:
    """A token whose signature, kind and issuer were found right: no later look at the same bytes finds another.

    Its expiry, and whether its certificate (base64, as it carries it) has ended or is revoked, is looked at each time.
    """

    claims: Mapping[str, Any]
    certificate: str
    expires_at: float


class TokenVerifier:
    """Checks tokens against the federation's CA: no key of any party is needed.

    A task shows the same token with each object, a flow with each call: the signature is computed once, and remembered
    by the token's digest until newer ones take the room. Nothing that time or a revocation changes is remembered.

    Parameters
    ----------
    ca_certificate
        The federation CA, PEM.
    revocations
        Its CRL, PEM: a live file, re-read when it was replaced.
    federation
        Name of the federation, part of every identity.

    Raises
    ------
    CertificateError
        A file is absent, damaged, or the CRL is not of this CA.
    """

    def __init__(self, ca_certificate: Path, revocations: Path, federation: str) -> None:
        authority = read_certificate(ca_certificate)
        self._authority = TrustedAuthority(authority)
        self._revocations = Revocations(revocations, issuer=public_key_of(authority))
        self._federation = federation
        self._signers: OrderedDict[str, _Signer] = OrderedDict()
        self._verified: OrderedDict[tuple[bytes, str], _Verified] = OrderedDict()

    def task(self, token: str, *, issuer: PartyId) -> TaskClaims:
        """Return what a task token of `issuer` says.

        Raises
        ------
        TokenError
            It is not a valid task token signed by that party.
        """
        claims = self._claims(token, issuer, _TASK, leeway_s=CLOCK_SKEW_S)
        try:
            leaving = Leaving.from_claims(claims.get("leaving", {}))
            member = Member.parse(f"{claims['role']}:{issuer}")
            return TaskClaims(_run_of(claims), member, float(claims["exp"]), leaving)
        except (KeyError, TypeError, ValueError, AttributeError) as exc:
            raise TokenError(f"{_TASK} token refused: it does not name a task: {exc}", hint=_NEW_TOKEN) from exc

    def service(self, token: str, *, issuer: PartyId, scope: str) -> ServiceClaims:
        """Return what a service token of `issuer` for `scope` says.

        Raises
        ------
        TokenError
            It is not a valid service token signed by that party for that scope.
        """
        claims = self._claims(token, issuer, _SERVICE, leeway_s=0)
        if claims.get("scope") != scope:
            raise TokenError(
                f"{_SERVICE} token refused: it is for {claims.get('scope')!r}, not for {scope!r}",
                hint=f"Ask the party's flow for a token with the scope {scope}.",
            )
        epoch = claims.get("epoch", 0)
        if type(epoch) is not int or epoch < 0:
            raise TokenError(f"{_SERVICE} token refused: {epoch!r} is not an epoch", hint=_NEW_TOKEN)
        return ServiceClaims(issuer, scope, float(claims["exp"]), epoch)

    def signed(self, text: str, *, issuer: PartyId, audience: str) -> Mapping[str, Any]:
        """Return what `TokenSigner.sign` of a party signed.

        Raises
        ------
        TokenError
            It is not of that kind, not of that party, or has expired.
        """
        return self._claims(text, issuer, audience, leeway_s=CLOCK_SKEW_S)

    def _claims(self, token: str, issuer: PartyId, audience: str, *, leeway_s: float) -> Mapping[str, Any]:
        refused = f"{audience} token refused"
        if len(token) > _MAX_TOKEN_LENGTH:
            raise TokenError(f"{refused}: it is longer than {_MAX_TOKEN_LENGTH} characters", hint=_NEW_TOKEN)
        digest = hashlib.sha256(token.encode(errors="surrogatepass")).digest()
        known = self._verified.get((digest, audience))
        try:
            signer = self._signer(known.certificate if known else _certificate_in(token))
            expected = party_uri(self._federation, issuer)
            if signer.uri != expected:
                raise CertificateError(f"its certificate is of {signer.uri}, not of {expected}", hint=_NEW_TOKEN)
            if known is not None and time.time() < known.expires_at + leeway_s:
                return known.claims
            claims = _decode(token, signer, audience, leeway_s)
            self._remember((digest, audience), _Verified(claims, _certificate_in(token), float(claims["exp"])))
            return claims
        except CertificateError as exc:
            raise TokenError(f"{refused}: {exc}", hint=exc.hint) from exc
        except jwt.PyJWTError as exc:
            raise TokenError(f"{refused}: {_why_refused(exc)}", hint=_NEW_TOKEN) from exc

    def _remember(self, key: tuple[bytes, str], verified: _Verified) -> None:
        self._verified[key] = verified
        if len(self._verified) > _MAX_CACHED_TOKENS:
            self._verified.popitem(last=False)

    def _signer(self, encoded: str) -> _Signer:
        signer = self._signers.get(encoded)
        if signer is None or signer.ends_at < time.time():
            signer = self._admit(encoded)
        self._signers.move_to_end(encoded)
        if self._revocations.is_revoked(signer.serial):
            raise CertificateError(
                f"the certificate {signer.serial} of {signer.uri} is revoked",
                hint="The federation's operator decides: fedparty pki renew.",
            )
        return signer

    def _admit(self, encoded: str) -> _Signer:
        """Check a certificate seen for the first time, and keep what later checks need."""
        certificate = _certificate_from_base64(encoded)
        self._authority.check_signer(certificate)
        signer = _Signer(
            uri_of(certificate),
            serial_of(certificate),
            public_key_of(certificate),
            certificate.not_valid_after_utc.timestamp(),
        )
        self._signers[encoded] = signer
        if len(self._signers) > _MAX_CACHED_LEAVES:
            self._signers.popitem(last=False)
        return signer


def _decode(token: str, signer: _Signer, audience: str, leeway_s: float) -> dict[str, Any]:
    return jwt.decode(
        token,
        signer.key,
        algorithms=[_ALGORITHM],
        audience=audience,
        issuer=signer.uri,
        leeway=leeway_s,
        options={"require": ["exp", "iss", "aud"], "strict_aud": True, "verify_iat": False},
    )


def _why_refused(error: jwt.PyJWTError) -> str:
    """Return the reason in words that do not change with the library."""
    return next(words for kind, words in _REASONS.items() if isinstance(error, kind))


def _certificate_in(token: str) -> str:
    chain = jwt.get_unverified_header(token).get("x5c")
    if not isinstance(chain, list) or len(chain) != 1 or not isinstance(chain[0], str):
        raise CertificateError("its header carries no certificate, or several", hint=_NEW_TOKEN)
    return chain[0]


def _certificate_from_base64(encoded: str) -> x509.Certificate:
    try:
        return x509.load_der_x509_certificate(base64.b64decode(encoded, validate=True))
    except (binascii.Error, ValueError) as exc:
        raise CertificateError("its header carries no certificate that can be read", hint=_NEW_TOKEN) from exc


def _run_of(claims: Mapping[str, Any]) -> TaskRun:
    task, attempt = claims["task"], claims["attempt"]
    if not TASK_NAME.fullmatch(task):
        raise ValueError(f"{task!r} is not a task name")
    if type(attempt) is not int or attempt < 0:
        raise ValueError(f"{attempt!r} is not an attempt")
    return TaskRun(parse_job_id(claims["job"]), task, attempt)
