"""Who may ask what: every path needs a role, and says so in one table."""

from __future__ import annotations

from unittest.mock import MagicMock

import pytest

from fedparty.flow.api.access import ACCESS, need_of
from fedparty.flow.api.app import create_app
from fedparty.flow.api.gate import PUBLIC, Gate
from fedparty.flow.people import UserRole


def _paths() -> set[tuple[str, str]]:
    gate = create_app(MagicMock(party="10000"), "api-token")
    assert isinstance(gate, Gate)
    described = gate._app.openapi()["paths"]  # type: ignore[attr-defined]
    return {(method.upper(), path) for path, methods in described.items() for method in methods}


def test_every_path_needs_a_role() -> None:
    assert {each for each in _paths() if each[1] not in {*PUBLIC, "/healthz"}} == set(ACCESS)


@pytest.mark.parametrize(("method", "path"), ACCESS, ids=" ".join)
def test_each_request_is_found(method: str, path: str) -> None:
    found = need_of(method, path.replace("{", "").replace("}", "").replace("/name", "/x"))
    assert found is not None
    assert found[0] == ACCESS[method, path]


@pytest.mark.parametrize("path", ["/v1/users/x/y", "/v1/jobs/", "/v1/jobs/a/b/stop", "/v1", "/v1/Jobs"])
def test_what_is_not_in_the_table_is_nothing(path: str) -> None:
    assert need_of("GET", path) is None


def test_only_reading_is_for_viewers_and_governing_for_admins() -> None:
    for (method, path), need in ACCESS.items():
        is_question = path == "/v1/policy/decisions"
        assert (need.role is UserRole.VIEWER) <= (method == "GET" or is_question), (method, path)
        if path.startswith(("/v1/users", "/v1/audit")) and path != "/v1/users/me":
            assert need.role is UserRole.SITE_ADMIN


def test_each_role_includes_those_below() -> None:
    roles = list(UserRole)
    assert [[role.includes(other) for other in roles].count(True) for role in roles] == [1, 2, 3, 4]
