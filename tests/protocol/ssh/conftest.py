"""One server for the tests of a file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sshd import Sshd, running_sshd


@pytest.fixture(scope="module")
def sshd() -> Iterator[Sshd]:
    with running_sshd(passwords=True) as server:
        yield server


@pytest.fixture(autouse=True)
def _no_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests see no key of whoever runs them."""
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
