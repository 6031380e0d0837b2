"""Profiles: the parties elsewhere that a person logged in to, by name.

Owns their files: one per profile in ``~/.config/fedparty/profiles`` (``XDG_CONFIG_HOME``), 0600 from its first byte and
whole or absent, with the address, the pinned CA and the token; and the file that names the one in use. Does not own
finding out whether a token is good (`fedparty.client.login`).
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from fedparty.client.session import Session
from fedparty.crypto.files import SECRET_MODE, make_private_folder, replace_file
from fedparty.errors import ConfigurationError
from fedparty.types import Secret

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SUFFIX = ".json"
_IN_USE = "in-use"


@dataclass(frozen=True)
class Profile:
    """A party elsewhere, and who one is there.

    Parameters
    ----------
    name
        By which a person calls it.
    url
        ``https://host:port`` of the party's REST.
    ca_pem
        The federation's CA, PEM: pinned.
    token
        What the party knows the person by.
    party, federation
        Who answered there at the login.
    """

    name: str
    url: str
    ca_pem: str
    token: Secret
    party: str
    federation: str

    def open(self) -> Session:
        """Open a session.

        Raises
        ------
        ConfigurationError
            The profile's file was changed by hand, so that its CA is none.
        """
        return Session(self.url, self.token, ca_certificate=self.ca_pem)


def folder() -> Path:
    """Return where profiles are kept."""
    base = Path(os.environ.get("XDG_CONFIG_HOME", ""))  # one that is not absolute does not count (XDG, basedir)
    return (base if base.is_absolute() else Path.home() / ".config") / "fedparty" / "profiles"


def names() -> tuple[str, ...]:
    """Return the names of all profiles."""
    found = folder().glob(f"*{_SUFFIX}")
    return tuple(sorted(path.name.removesuffix(_SUFFIX) for path in found if not path.name.startswith(".")))


def exists(name: str) -> bool:
    """Return whether there is a profile of this name."""
    return _path(name).exists()


def read(name: str) -> Profile:
    """Return a profile.

    Raises
    ------
    ConfigurationError
        There is none of this name, or its file is damaged or open to others.
    """
    path = _path(name)
    try:
        if path.stat().st_mode & 0o077:
            raise ConfigurationError(f"{path}: others may read the token in it", hint=f"Run: chmod 600 {path}")
        about = json.loads(path.read_bytes())
        texts = {key: str(about[key]) for key in ("url", "ca_pem", "party", "federation")}
        return Profile(name=name, token=Secret(str(about["token"])), **texts)
    except FileNotFoundError as exc:
        known = ", ".join(names()) or "none"
        raise ConfigurationError(
            f"there is no profile {name} (profiles: {known})", hint=f"Run: fedparty login URL --profile {name}"
        ) from exc
    except (ValueError, KeyError, TypeError) as exc:
        raise ConfigurationError(
            f"{path}: the profile is damaged", hint=f"Run: fedparty profile remove {name}, and log in again."
        ) from exc


def write(profile: Profile) -> Path:
    """Keep a profile; return its file."""
    path = _path(profile.name)
    make_private_folder(path.parent)
    content = {
        "url": profile.url,
        "party": profile.party,
        "federation": profile.federation,
        "ca_pem": profile.ca_pem,
        "token": profile.token.reveal(),
    }
    replace_file(path, json.dumps(content, indent=2).encode() + b"\n", mode=SECRET_MODE)
    return path


def remove(name: str) -> None:
    """Remove a profile, its token with it.

    Raises
    ------
    ConfigurationError
        There is none of this name.
    """
    try:
        _path(name).unlink()
    except FileNotFoundError as exc:
        raise ConfigurationError(f"there is no profile {name}", hint="Run: fedparty profile list") from exc
    if in_use() == name:
        (folder() / _IN_USE).unlink()


def use(name: str) -> None:
    """Make a profile the one that is meant where nothing else says.

    Raises
    ------
    ConfigurationError
        There is none of this name.
    """
    read(name)
    replace_file(folder() / _IN_USE, name.encode() + b"\n")


def in_use() -> str | None:
    """Return the profile that is meant where nothing else says; None: none is."""
    try:
        return (folder() / _IN_USE).read_text().strip() or None
    except FileNotFoundError:
        return None


def _path(name: str) -> Path:
    if not NAME.fullmatch(name):
        raise ConfigurationError(
            f"{name!r} is not the name of a profile", hint="Letters, digits, dot, dash and underscore, up to 64."
        )
    return folder() / f"{name}{_SUFFIX}"
