"""A session's calls about a party's users, its policy and its audit log.

Owns these calls. Answers are returned as they came: their shape is `fedparty.flow.api`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Governance:
    """A part of `fedparty.client.Session`; its calls raise `FedpartyError` where the party refuses or is silent."""

    def _call(self, method: str, path: str, **options: Any) -> Any:
        raise NotImplementedError

    def me(self) -> dict[str, Any]:
        """Return who this session is: ``name``, ``role``, ``party``, ``public_key``."""
        return dict(self._call("GET", "/v1/users/me"))

    def users(self) -> list[dict[str, Any]]:
        """Return the party's users."""
        return list(self._call("GET", "/v1/users")["users"])

    def add_user(self, name: str, role: str, public_key: str = "") -> dict[str, Any]:
        """Add a user, without a token."""
        return dict(self._call("POST", "/v1/users", json={"name": name, "role": role, "public_key": public_key}))

    def remove_user(self, name: str) -> None:
        """Remove a user; their tokens are void at once."""
        self._call("DELETE", f"/v1/users/{name}")

    def new_token(self, name: str, lifetime_s: float) -> dict[str, Any]:
        """Make a token for a user: ``token``, which is shown this once, and ``expires_at``."""
        return dict(self._call("POST", f"/v1/users/{name}/tokens", json={"lifetime_s": lifetime_s}))

    def revoke_tokens(self, name: str) -> None:
        """Void every token of a user at once."""
        self._call("DELETE", f"/v1/users/{name}/tokens")

    def policy(self) -> dict[str, Any]:
        """Return the policy in force."""
        return dict(self._call("GET", "/v1/policy"))

    def decisions(self, question: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return what the party would decide of a job; nothing is submitted."""
        return list(self._call("POST", "/v1/policy/decisions", json=question)["decisions"])

    def audit(self, limit: int = 100) -> list[dict[str, Any]]:
        """Return the newest entries of the audit log, oldest first."""
        return list(self._call("GET", "/v1/audit", params={"limit": limit})["entries"])

    def verify_audit(self) -> dict[str, Any]:
        """Check the audit log: ``entries``, ``head``, and ``fault``, which is empty where it is whole."""
        return dict(self._call("GET", "/v1/audit/verdict"))
