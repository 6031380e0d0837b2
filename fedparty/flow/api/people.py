"""REST: this party's users and their tokens.

Owns the paths under ``/v1/users``. Does not own what they do: `People`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from fedparty.flow.api.backend import Backend
from fedparty.flow.api.gate import Asking
from fedparty.flow.api.views import ErrorView
from fedparty.flow.audit import ALLOWED, Entry
from fedparty.flow.people import ADMIN, Principal, User, UserRole
from fedparty.flow.people.people import MAX_LIFETIME_S

_UNKNOWN: dict[int | str, dict[str, Any]] = {404: {"model": ErrorView}}
_REFUSED: dict[int | str, dict[str, Any]] = {400: {"model": ErrorView}, 409: {"model": ErrorView}}
_DEFAULT_LIFETIME_S = 30 * 24 * 3600.0


class NewUser(BaseModel):
    """Somebody to be added."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(max_length=100)]
    role: UserRole
    public_key: Annotated[str, Field(max_length=200)] = ""
    """Ed25519, 32 bytes in base64: then every submission of theirs must be signed with it."""


class UserView(BaseModel):
    """A user."""

    name: str
    role: UserRole
    public_key: str
    created_at: datetime | None
    tokens: int
    """How many are valid."""
    token_expires_at: datetime | None
    """When the last of them expires."""


class UsersView(BaseModel):
    """The built-in admin, then the users by name."""

    users: list[UserView]


class Me(BaseModel):
    """Who asks."""

    name: str
    role: UserRole
    party: str
    public_key: str


class NewToken(BaseModel):
    """How long a token is to be valid."""

    model_config = ConfigDict(extra="forbid")

    lifetime_s: Annotated[float, Field(gt=0, le=MAX_LIFETIME_S, allow_inf_nan=False)] = _DEFAULT_LIFETIME_S


class TokenView(BaseModel):
    """A token, the only time that it is shown."""

    token: str
    expires_at: datetime


def router(backend: Backend) -> APIRouter:
    """Return the paths."""
    routes = APIRouter(prefix="/v1/users", tags=["people"])
    people = backend.people

    async def write_down(by: Principal, what: str, name: str, why: str) -> None:
        await backend.audit.record(Entry(f"{by.name}@{backend.party}", what, name, ALLOWED, why))

    @routes.get("")
    async def list_users() -> UsersView:
        """List this party's users."""
        built_in = User(ADMIN, UserRole.SITE_ADMIN, "", 0, 1)
        return UsersView(users=[_view(user) for user in (built_in, *await people.all())])

    @routes.post("", status_code=201, responses=_REFUSED)
    async def add(new: NewUser, by: Asking) -> UserView:
        """Add a user; a token is made besides."""
        await people.check_new(new.name, new.public_key)
        await write_down(by, "add user", new.name, f"as {new.role}" + (", with a key" if new.public_key else ""))
        return _view(await people.add(new.name, new.role, new.public_key))

    @routes.get("/me")
    async def me(by: Asking) -> Me:
        """Show who asks."""
        return Me(name=by.name, role=by.role, party=backend.party, public_key=await people.key_of(by.name))

    @routes.delete("/{name}", status_code=204, responses=_UNKNOWN)
    async def remove(name: str, by: Asking) -> None:
        """Remove a user; their tokens are void at once."""
        user = await people.user(name)
        await write_down(by, "remove user", user.name, f"was {user.role}")
        await people.remove(user.name)

    @routes.post("/{name}/tokens", status_code=201, responses=_UNKNOWN)
    async def issue(name: str, new: NewToken, by: Asking) -> TokenView:
        """Make a token for a user; it is shown this once."""
        user = await people.user(name)
        await write_down(by, "make token", user.name, f"for {new.lifetime_s / 86400:.3g} days")
        token, expires_at = await people.issue(user.name, new.lifetime_s)
        return TokenView(token=token.reveal(), expires_at=datetime.fromtimestamp(expires_at, UTC))

    @routes.delete("/{name}/tokens", status_code=204, responses=_UNKNOWN)
    async def revoke(name: str, by: Asking) -> None:
        """Void every token of a user at once."""
        user = await people.user(name)
        await write_down(by, "revoke tokens", user.name, "all of them")
        await people.revoke(user.name)

    return routes


def _view(user: User) -> UserView:
    return UserView(
        name=user.name,
        role=user.role,
        public_key=user.public_key,
        created_at=_time(user.created_at),
        tokens=user.tokens,
        token_expires_at=_time(user.token_expires_at),
    )


def _time(seconds: float | None) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds else None
