"""Files that are whole, or secret, or both.

Owns replacing a file by rename, the modes of secrets, and reading them. Does not own what is written.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from fedparty.errors import ConfigurationError
from fedparty.types import Secret

PUBLIC_MODE = 0o644
SECRET_MODE = 0o600
PRIVATE_FOLDER_MODE = 0o700


def replace_file(path: Path, content: bytes, *, mode: int = PUBLIC_MODE) -> None:
    """Write `path` so that a reader, or a crash, finds either the old content or the new one.

    The new content has its mode from its first byte and is on disk before it takes the name.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)  # whatever the umask
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def read_secret(path: Path, *, hint: str = "Run generate_config.py again and deploy the party.") -> Secret:
    """Return the secret that a file holds.

    Raises
    ------
    ConfigurationError
        The file cannot be read, or is empty: whoever shows nothing would show the right secret.
    """
    try:
        content = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as exc:
        what = exc.strerror if isinstance(exc, OSError) else "it is not text"
        raise ConfigurationError(f"{path}: {what}", hint=hint) from exc
    if not content:
        raise ConfigurationError(f"{path}: the secret is empty", hint=hint)
    return Secret(content)


def make_private_folder(path: Path) -> None:
    """Make `path`, and see to it that only its owner can enter it."""
    path.mkdir(mode=PRIVATE_FOLDER_MODE, parents=True, exist_ok=True)
    if path.stat().st_mode & 0o777 != PRIVATE_FOLDER_MODE:
        path.chmod(PRIVATE_FOLDER_MODE)


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
