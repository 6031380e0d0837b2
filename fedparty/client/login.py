"""Logging in to a party elsewhere: whose CA it is, and whether the token is good, before either is kept.

Owns pinning: a CA is trusted because a person gave its file or its fingerprint, which came another way than the
connection; and one that changed is refused. Does not own where profiles are kept (`fedparty.client.profiles`).
"""

from __future__ import annotations

import ssl
from pathlib import Path

from fedparty.client import failures, profiles
from fedparty.client.http import httpx
from fedparty.client.profiles import Profile
from fedparty.client.session import Session
from fedparty.crypto.fingerprint import fingerprint_of, is_same_fingerprint
from fedparty.errors import CertificateError, ConfigurationError
from fedparty.types import Secret

_MAX_PEM_BYTES = 2**16
_TIMEOUT_S = 15.0
_ASK = "Ask the party's operator for the federation's fingerprint: generate_config.py printed it."


def pinned_ca(url: str, name: str, ca_file: Path | None, fingerprint: str | None) -> str:
    """Return the CA that a profile trusts, PEM: from a file, by its fingerprint, or as it was pinned before.

    Parameters
    ----------
    url
        Of the party; asked for its CA where only the fingerprint is known.
    name
        Of the profile; one that exists keeps its CA.

    Raises
    ------
    CertificateError
        The CA is another one than the fingerprint's, or than the one that was pinned.
    ConfigurationError
        Nothing says which CA to trust, or the file cannot be read.
    RpcError
        The party is not reached.
    """
    _check(url)
    known = profiles.read(name).ca_pem if profiles.exists(name) else None
    if ca_file is not None:
        found = _read(ca_file)
    elif fingerprint is not None:
        found = _fetch(url)
    elif known is not None:
        return known
    else:
        raise ConfigurationError(f"{url}: nothing says which CA to trust", hint=f"Give --ca or --fingerprint. {_ASK}")
    is_fingerprint = fingerprint_of(found.encode())
    if fingerprint is not None and not is_same_fingerprint(is_fingerprint, fingerprint):
        raise CertificateError(
            f"the CA's fingerprint is {is_fingerprint}, not {fingerprint}: do not trust it", hint=_ASK
        )
    if known is not None and not is_same_fingerprint(is_fingerprint, fingerprint_of(known.encode())):
        raise CertificateError(
            f"profile {name} is pinned to another CA than this one ({is_fingerprint})",
            hint=f"If the federation was really made anew: fedparty profile remove {name}, and log in again.",
        )
    return found


def log_in(url: str, name: str, ca_pem: str, token: Secret) -> Profile:
    """Ask a party who it is, with the token, and keep the profile; the first one is in use from now on.

    Raises
    ------
    CertificateError
        Who answers has no certificate of this CA for this address.
    TokenError
        The token was refused.
    RpcError
        The party is not reached.
    """
    with Session(url, token, ca_certificate=ca_pem) as session:
        about = session.party()
    profile = Profile(name, url, ca_pem, token, about.id, about.federation)
    profiles.write(profile)
    if profiles.in_use() is None:
        profiles.use(name)
    return profile


def _check(url: str) -> None:
    if not url.startswith("https://") or "/" in url.removeprefix("https://").rstrip("/"):
        raise ConfigurationError(f"{url}: this is no address of a party's REST", hint="Give https://HOST:PORT.")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as exc:
        what = exc.strerror if isinstance(exc, OSError) else "not a certificate in PEM"
        raise ConfigurationError(f"{path}: {what}", hint="Give the file ca/ca.crt of a bundle.") from exc


def _fetch(url: str) -> str:
    """Return the CA that a party shows, whoever it is: nothing secret is sent, and nothing is believed yet."""
    unverified = ssl.create_default_context()
    unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
    with (
        failures.translated(url),
        httpx.Client(verify=unverified, trust_env=False, timeout=_TIMEOUT_S) as client,
        client.stream("GET", f"{url.rstrip('/')}/v1/ca") as response,
    ):
        content = b""
        for part in response.iter_bytes():
            content += part
            if len(content) > _MAX_PEM_BYTES:
                break
    if not response.is_success or len(content) > _MAX_PEM_BYTES:
        raise CertificateError(f"{url} shows no CA", hint="Give the CA's file instead: --ca.")
    return content.decode("ascii", errors="replace")
