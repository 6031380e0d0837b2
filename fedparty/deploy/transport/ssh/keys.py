"""The private keys to log in with.

Owns reading keys from files and from the agent. Does not log in.
"""

from __future__ import annotations

import base64
import binascii
from pathlib import Path

import paramiko

from fedparty.errors import DeployError
from fedparty.types import Secret

USUAL_NAMES = ("id_ed25519", "id_ecdsa", "id_rsa")

_KINDS = (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey)


def usual_files(folder: Path) -> tuple[Path, ...]:
    """Return the keys that SSH would use by itself."""
    return tuple(folder / name for name in USUAL_NAMES if (folder / name).is_file())


def load(file: Path, passphrase: Secret | None = None) -> paramiko.PKey | None:
    """Return the key of a file, with its certificate if it has one; None where it needs another passphrase.

    Raises
    ------
    DeployError
        The file cannot be read, or holds no key of a known kind.
    """
    is_encrypted = False
    for kind in _KINDS:
        try:
            key = kind.from_private_key_file(str(file), passphrase.reveal() if passphrase else None)
        except paramiko.PasswordRequiredException:
            is_encrypted = True
        except OSError as exc:
            raise DeployError(f"{file}: the key cannot be read: {exc.strerror}", hint="Correct ssh_key.") from exc
        except (paramiko.SSHException, ValueError):
            continue
        else:
            return _with_certificate(key, file)
    if is_encrypted or passphrase:
        return None
    raise DeployError(f"{file}: is not a private key", hint="Name the key without .pub: Ed25519, ECDSA or RSA.")


def public_blob(file: Path) -> bytes | None:
    """Return the public half that lies beside a private key; None where there is none."""
    try:
        return base64.b64decode(file.with_name(f"{file.name}.pub").read_text().split()[1])
    except (OSError, IndexError, binascii.Error, UnicodeDecodeError):
        return None


def _with_certificate(key: paramiko.PKey, file: Path) -> paramiko.PKey:
    certificate = file.with_name(f"{file.name}-cert.pub")
    if certificate.is_file():
        key.load_certificate(str(certificate))
    return key
