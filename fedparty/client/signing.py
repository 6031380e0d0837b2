"""A person's signature of what they submit.

Owns finding their key. Does not own the signature's form (`fedparty.crypto.submissions`).

Signing needs two: a private key on this machine, and its public half registered with the party (``fedparty user add
--key``). Whoever has no key here submits unsigned; a party where they registered one refuses that.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from fedparty.errors import CertificateError

if TYPE_CHECKING:
    from fedparty.client.governance import Governance

KEY_VARIABLE = "FEDPARTY_KEY"
HEADER = "x-fedparty-signature"


def key_file() -> Path:
    """Return where a person's private key lies: what FEDPARTY_KEY names, else ``~/.config/fedparty/ed25519``."""
    if given := os.environ.get(KEY_VARIABLE):
        return Path(given)
    base = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".config") / "fedparty" / "ed25519"


def headers(session: Governance, text: bytes) -> dict[str, str]:
    """Return the headers that sign a submission; none where there is no key here, or none is registered there.

    Parameters
    ----------
    text
        The description, the very bytes that are sent.

    Raises
    ------
    CertificateError
        The key is not the one that is registered, or cannot be read.
    """
    file = key_file()
    if not file.exists():
        return {}
    me = session.me()
    if not me["public_key"]:
        return {}
    from fedparty.crypto import submissions, user_keys  # most people have no key: their commands start faster

    key = user_keys.read_private_key(file)
    if user_keys.text_of(key.public_key()) != me["public_key"]:
        raise CertificateError(
            f"{file} is not the key that {me['name']} registered with party {me['party']}",
            hint=f"Name the right one: {KEY_VARIABLE}=FILE. Or ask an admin of the party to register this one.",
        )
    return {HEADER: submissions.sign(key, me["name"], me["party"], text)}
