"""Which role a user needs for which request: one table, and every path is in it (a test holds it to the OpenAPI).

Owns the table and finding a request in it. Does not own who asks (`gate`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from fedparty.flow.people import UserRole

_VIEWER, _RESEARCHER, _ADMIN = UserRole.VIEWER, UserRole.RESEARCHER, UserRole.SITE_ADMIN


@dataclass(frozen=True)
class Need:
    """What a request needs.

    Parameters
    ----------
    role
        At least.
    is_own
        Whether somebody below operator may do it with jobs only that they submitted.
    """

    role: UserRole
    is_own: bool = False


_READ, _SUBMIT, _DIRECT, _GOVERN = Need(_VIEWER), Need(_RESEARCHER), Need(_RESEARCHER, is_own=True), Need(_ADMIN)

ACCESS: Mapping[tuple[str, str], Need] = MappingProxyType(
    {
        ("GET", "/v1/jobs"): _READ,
        ("POST", "/v1/jobs"): _SUBMIT,
        ("GET", "/v1/jobs/{job_id}"): _READ,
        ("GET", "/v1/jobs/{job_id}/description"): _READ,
        ("GET", "/v1/jobs/{job_id}/code"): _READ,
        ("PUT", "/v1/code/{sha256}"): _SUBMIT,
        ("DELETE", "/v1/jobs/{job_id}"): _DIRECT,
        ("POST", "/v1/jobs/{job_id}/stop"): _DIRECT,
        ("GET", "/v1/jobs/{job_id}/logs"): _READ,
        ("GET", "/v1/jobs/{job_id}/metrics"): _READ,
        ("GET", "/v1/jobs/{job_id}/outputs"): _READ,
        ("GET", "/v1/jobs/{job_id}/outputs/file"): _READ,
        ("GET", "/v1/components"): _READ,
        ("GET", "/v1/components/{name}"): _READ,
        ("GET", "/v1/tables"): _READ,
        ("GET", "/v1/tables/{name}"): _READ,
        ("PUT", "/v1/tables/{name}"): _GOVERN,
        ("DELETE", "/v1/tables/{name}"): _GOVERN,
        ("GET", "/v1/party"): _READ,
        ("GET", "/v1/party/ping"): _READ,
        ("GET", "/v1/users"): _GOVERN,
        ("POST", "/v1/users"): _GOVERN,
        ("GET", "/v1/users/me"): _READ,
        ("DELETE", "/v1/users/{name}"): _GOVERN,
        ("POST", "/v1/users/{name}/tokens"): _GOVERN,
        ("DELETE", "/v1/users/{name}/tokens"): _GOVERN,
        ("GET", "/v1/policy"): _READ,
        ("POST", "/v1/policy/decisions"): _READ,
        ("GET", "/v1/audit"): _GOVERN,
        ("GET", "/v1/audit/verdict"): _GOVERN,
    }
)


def need_of(method: str, path: str) -> tuple[Need, Mapping[str, str]] | None:
    """Return what a request needs, and what its path names; None: there is no such path."""
    for (known, _), (pattern, need) in _patterns().items():
        found = pattern.fullmatch(path) if known == method else None
        if found:
            return need, found.groupdict()
    return None


@cache
def _patterns() -> Mapping[tuple[str, str], tuple[re.Pattern[str], Need]]:
    """Return the table with paths as expressions; fixed words are tried before names."""
    in_order = sorted(ACCESS, key=lambda key: key[1].replace("{", "\N{DEL}"))
    return {key: (re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", key[1])), ACCESS[key]) for key in in_order}
