"""Who asks: the bundle's token, and those of users.

Owns making, checking and revoking tokens. Does not own what a user may do (`users`), nor statements (`store`).

A token is 256 random bits. Only its SHA-256 is stored: a slow hash protects what people can guess, and nobody guesses
256 bits; a fast one costs each request nothing. Nothing is cached, so a token is void as soon as it is revoked.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time

from fedparty.crypto.user_keys import read_public_key
from fedparty.errors import CertificateError
from fedparty.flow.people.store import PeopleStore
from fedparty.flow.people.users import ADMIN, USER_NAME, Principal, User, UserRole
from fedparty.rpc import catalogue
from fedparty.types import Secret

PREFIX = "fedparty_"
"""By which a token that leaked into a repository is found."""

MAX_LIFETIME_S = 366 * 24 * 3600.0
_TOKEN_BYTES = 32


class People:
    """The people of one party.

    Parameters
    ----------
    store
        Where they are.
    api_token
        The built-in admin's.
    """

    def __init__(self, store: PeopleStore, api_token: Secret) -> None:
        self._store = store
        self._api_token = _digest(api_token.reveal())

    async def who(self, token: str) -> Principal | None:
        """Return whose token it is, or None.

        Raises
        ------
        DatabaseError
            It is not the admin's, and the database cannot be read now.
        """
        digest = _digest(token)
        if hmac.compare_digest(digest, self._api_token):
            return Principal(ADMIN, UserRole.SITE_ADMIN)
        if not token.startswith(PREFIX):
            return None
        user = await self._store.owner(digest)
        return None if user is None else Principal(user.name, user.role)

    async def all(self) -> tuple[User, ...]:
        """Return every user."""
        return await self._store.users()

    async def user(self, name: str) -> User:
        """Return a user.

        Raises
        ------
        RpcError
            NOT_KNOWN
        """
        user = await self._store.user(name)
        if user is None:
            raise catalogue.error("NOT_KNOWN", f"there is no user {name[:40]!r}", hint="fedparty user list")
        return user

    async def key_of(self, name: str) -> str:
        """Return the public key that a user registered; empty: none."""
        user = await self._store.user(name)
        return user.public_key if user else ""

    async def check_new(self, name: str, public_key: str) -> None:
        """Make sure that a user can be added.

        Raises
        ------
        RpcError
            BAD_REQUEST: the name cannot be used, or the key not read. USER_EXISTS.
        """
        if not USER_NAME.fullmatch(name) or name == ADMIN:
            hint = "Lower-case letters, digits, dot, dash and underscore, 32 at most; admin is built in."
            raise catalogue.error("BAD_REQUEST", f"{name[:40]!r} cannot be a user's name", hint=hint)
        try:
            read_public_key(public_key)
        except CertificateError as exc:
            raise catalogue.error("BAD_REQUEST", exc.message, hint=exc.hint) from exc
        if await self._store.user(name) is not None:
            raise catalogue.error("USER_EXISTS", f"there is a user {name} already")

    async def add(self, name: str, role: UserRole, public_key: str) -> User:
        """Add a user that was checked, without a token."""
        user = User(name, role, public_key, time.time())
        await self._store.add(user)
        return user

    async def remove(self, name: str) -> None:
        """Remove a user; their tokens are void from now on."""
        await self._store.remove(name)

    async def issue(self, name: str, lifetime_s: float) -> tuple[Secret, float]:
        """Return a new token of a user, and when it expires; it cannot be shown again."""
        token, expires_at = PREFIX + secrets.token_urlsafe(_TOKEN_BYTES), time.time() + lifetime_s
        await self._store.add_token(name, _digest(token), expires_at)
        return Secret(token), expires_at

    async def revoke(self, name: str) -> None:
        """Void every token of a user."""
        await self._store.remove_tokens(name)

    async def use_nonce(self, user: str, nonce: str, job: str, expires_at: float) -> bool:
        """Return whether a submission's nonce is new."""
        return await self._store.use_nonce(user, nonce, job, expires_at)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode(errors="surrogateescape")).hexdigest()
