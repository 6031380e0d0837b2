"""Profiles: kept where only their owner reads them, whole or absent, and found by name."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from fedparty.client import profiles
from fedparty.client.profiles import Profile
from fedparty.errors import ConfigurationError
from fedparty.types import Secret


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def _profile(name: str = "lab") -> Profile:
    return Profile(name, "https://h:1", "PEM", Secret("open-sesame"), "10000", "fedparty")


def test_what_is_kept_is_read_as_it_was_and_by_its_owner_alone() -> None:
    path = profiles.write(_profile())
    assert profiles.read("lab") == _profile()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert "sesame" not in repr(profiles.read("lab"))


def test_one_is_in_use() -> None:
    assert profiles.in_use() is None
    profiles.write(_profile("a"))
    profiles.write(_profile("b"))
    profiles.use("b")
    assert (profiles.names(), profiles.in_use()) == (("a", "b"), "b")
    profiles.remove("b")
    assert (profiles.names(), profiles.in_use()) == (("a",), None)
    with pytest.raises(ConfigurationError, match="no profile b"):
        profiles.use("b")
    with pytest.raises(ConfigurationError, match="no profile b"):
        profiles.remove("b")


@pytest.mark.parametrize("name", ["", "../x", ".hidden", "a/b", "x" * 65, "a\nb"])
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(ConfigurationError, match="not the name of a profile"):
        profiles.read(name)


def test_a_damaged_or_open_file_is_refused() -> None:
    path = profiles.write(_profile())
    path.chmod(0o644)
    with pytest.raises(ConfigurationError, match="others may read") as raised:
        profiles.read("lab")
    assert "chmod 600" in raised.value.hint
    path.chmod(0o600)
    for content in ("", "[]", json.dumps({"url": "x"})):
        path.write_text(content)
        with pytest.raises(ConfigurationError, match="damaged"):
            profiles.read("lab")


def test_a_folder_that_is_not_absolute_does_not_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert profiles.folder() == tmp_path / ".config" / "fedparty" / "profiles"
