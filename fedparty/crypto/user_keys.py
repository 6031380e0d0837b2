"""Keys of people: Ed25519 (RFC 8032), with which they sign what they submit.

Owns making and reading them. Does not own what is signed (`fedparty.crypto.submissions`).

A public key is one line of base64, its 32 bytes; a private one is PKCS#8 PEM.
"""

from __future__ import annotations

import base64
import binascii
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from fedparty.crypto.files import SECRET_MODE, replace_file
from fedparty.errors import CertificateError, ConfigurationError

_MAKE = "Make a pair: fedparty user key ed25519"


def make_pair(path: Path) -> Path:
    """Write a new private key, 0600, and beside it the public one; return where that is.

    Raises
    ------
    ConfigurationError
        There is a file already: a key is never replaced.
    """
    public = path.with_name(f"{path.name}.pub")
    for each in (path, public):
        if each.exists():
            raise ConfigurationError(f"{each} is there already", hint="Give another name, or remove it yourself.")
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    replace_file(path, pem, mode=SECRET_MODE)
    replace_file(public, f"{text_of(key.public_key())}\n".encode())
    return public


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """Return the private key in a file.

    Raises
    ------
    CertificateError
        There is none, or others may read it.
    """
    try:
        if path.stat().st_mode & 0o077:
            raise CertificateError(f"{path}: others may read this private key", hint=f"chmod 600 {path}")
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except OSError as exc:
        raise CertificateError(f"{path}: {exc.strerror}", hint=_MAKE) from exc
    except (ValueError, TypeError) as exc:
        raise CertificateError(f"{path}: not an unencrypted private key in PEM", hint=_MAKE) from exc
    if not isinstance(key, Ed25519PrivateKey):
        raise CertificateError(f"{path}: not an Ed25519 key", hint=_MAKE)
    return key


def read_public_key(text: str) -> Ed25519PublicKey | None:
    """Return a public key from its line; None for an empty one.

    Raises
    ------
    CertificateError
        It is something else.
    """
    if not text:
        return None
    try:
        return Ed25519PublicKey.from_public_bytes(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError) as exc:
        raise CertificateError("the public key is not 32 bytes in base64", hint=_MAKE) from exc


def text_of(key: Ed25519PublicKey) -> str:
    """Return a public key as one line."""
    return base64.b64encode(key.public_bytes_raw()).decode()
