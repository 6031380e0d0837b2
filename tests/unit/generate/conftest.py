"""What the generator's tests share: federations from real parties.conf text, and the golden files' option."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fedparty.config import Federation, load

TWO = "engine=process\nparty_list=(10000 9999)\nparty_ip_list=(127.0.0.1 127.0.0.1)\n"
EXCHANGE = "exchange_ip=127.0.0.1\n"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="Write the golden files anew.")


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("update_golden", default=False))


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Federation]:
    """Return what parses the text of a parties.conf."""

    def parse(text: str = TWO, *more: str) -> Federation:
        path = tmp_path / "parties.conf"
        path.write_text("".join((text, *more)))
        return load(path).federation

    return parse


@pytest.fixture
def federation_of(read: Callable[..., Federation]) -> Callable[..., Federation]:
    """Return what makes a federation of any number of parties, each on a machine of its own."""

    def make(count: int, *more: str) -> Federation:
        ids = " ".join(str(10_000 + number) for number in range(count))
        addresses = " ".join(f"10.0.0.{1 + number}" for number in range(count))
        return read("engine=process\n", *more, f"party_list=({ids})\nparty_ip_list=({addresses})\n")

    return make


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    return tmp_path / "outputs"
