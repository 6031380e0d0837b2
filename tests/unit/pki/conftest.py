"""A CA whose clock the test moves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fedparty.pki.authority import Authority


class Clock:
    """Tells the time that it was set to."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC).replace(microsecond=0)

    def __call__(self) -> datetime:
        return self.now

    def pass_days(self, days: float) -> None:
        self.now += timedelta(days=days)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "ca"


@pytest.fixture
def authority(folder: Path, clock: Clock) -> Authority:
    return Authority.open_or_create(folder, "demo", clock=clock)
