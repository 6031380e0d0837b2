"""A parties.conf from text, in a temporary folder that messages do not show."""

from collections.abc import Callable
from pathlib import Path

import pytest

from fedparty.config import ConfigurationErrors, Loaded, load

Write = Callable[[str], Loaded]


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Return a function that loads the given text as ``parties.conf``."""
    monkeypatch.chdir(tmp_path)

    def read(text: str) -> Loaded:
        Path("parties.conf").write_text(text, encoding="utf-8")
        return load(Path("parties.conf"))

    return read


@pytest.fixture
def faults_of(read: Write) -> Callable[[str], list[str]]:
    """Return a function that loads text with faults and returns what a user would read."""

    def faults_of(text: str) -> list[str]:
        with pytest.raises(ConfigurationErrors) as raised:
            read(text)
        return raised.value.message.split("\n")

    return faults_of
