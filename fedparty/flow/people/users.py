"""Users and what they may do.

Owns the words. Does not own where users are stored, nor which request needs which role (`fedparty.flow.api.access`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

USER_NAME = re.compile(r"[a-z][a-z0-9._-]{0,31}")
ADMIN = "admin"
"""The built-in user, whose token is the bundle's ``api-token``."""


class UserRole(StrEnum):
    """What a user may do; each may do what those before it may."""

    VIEWER = "viewer"
    """Reads."""
    RESEARCHER = "researcher"
    """Submits jobs, and directs those that are their own."""
    OPERATOR = "operator"
    """Directs any job."""
    SITE_ADMIN = "site-admin"
    """Users, policy, audit log."""

    def includes(self, other: UserRole) -> bool:
        """Return whether whoever has this role may do what `other` may."""
        order = list(UserRole)
        return order.index(self) >= order.index(other)


@dataclass(frozen=True)
class Principal:
    """Who asks."""

    name: str
    role: UserRole


@dataclass(frozen=True)
class User:
    """Somebody whom this party knows. Times are seconds since the epoch."""

    name: str
    role: UserRole
    public_key: str
    """Ed25519, base64; empty: none is registered."""
    created_at: float
    tokens: int = 0
    """How many tokens are valid."""
    token_expires_at: float | None = None
    """When the last of them expires."""
