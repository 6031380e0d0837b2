"""A database of each kind, as a service opens it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from databases import settings_with
from flow_party import Databases

from fedparty.database.engine import Database
from fedparty.settings import FlowSettings


@pytest.fixture
def settings(database: Databases, tmp_path: Path) -> FlowSettings:
    return settings_with(**database(tmp_path))


@pytest.fixture
async def opened(settings: FlowSettings) -> AsyncIterator[Database]:
    opened = Database(settings)
    yield opened
    await opened.close()
