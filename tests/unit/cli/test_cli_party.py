"""``fedparty party``: what a site is and offers, for people and for programs."""

from __future__ import annotations

import json
from types import TracebackType

import pytest
from click.testing import CliRunner

from fedparty.cli import party as command
from fedparty.client.status import PartyStatus

FOUND = PartyStatus("9999", "lab", "1.2.3", "1.0", 4.0, 2.5, 8 << 30, 6 << 30, 2, 1, 7)


class _Session:
    def __enter__(self) -> _Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return None

    def party(self) -> PartyStatus:
        return FOUND


@pytest.fixture(autouse=True)
def _open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "open_session", lambda *_: _Session())


def _say(*arguments: str) -> str:
    result = CliRunner().invoke(command.party, arguments)
    assert result.exit_code == 0, result.output
    return result.output


def test_resources_are_a_table() -> None:
    assert _say("resources") == (
        "                 offered      free\n"
        "cores                  4       2.5\n"
        "memory (GiB)         8.0       6.0\n"
        "GPUs                   2         1\n"
        "tasks that wait for them: 7\n"
    )


def test_resources_are_json() -> None:
    assert json.loads(_say("resources", "--output", "json")) == {
        "cores": 4.0,
        "free_cores": 2.5,
        "memory_bytes": 8 << 30,
        "free_memory_bytes": 6 << 30,
        "gpus": 2,
        "free_gpus": 1,
        "waiting": 7,
    }


def test_status_says_who_answers() -> None:
    assert _say("status").splitlines()[0] == "id          9999"
    assert json.loads(_say("status", "--output", "json"))["version"] == "1.2.3"
