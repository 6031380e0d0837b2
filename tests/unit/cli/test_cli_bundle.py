"""``fedparty bundle verify``: what a receiver does before the first start."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedparty.cli.main import main
from fedparty.config import load
from fedparty.generate import run


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    (folder / "parties.conf").write_text("party_list=(10000)\nparty_ip_list=(127.0.0.1)\n")
    run(load(folder / "parties.conf").federation, folder / "outputs", engine="process")
    return folder / "outputs"


def test_a_sound_bundle_says_whose_it_is(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bundle", "verify", str(outputs / "confs-10000")]) == 0
    printed = capsys.readouterr().out
    assert "party 10000 of fedparty" in printed
    assert "compare it with the one given out of band" in printed


def test_another_fingerprint_is_refused(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    foreign = "SHA256:" + "-".join(["0000"] * 16)
    assert main(["bundle", "verify", str(outputs / "confs-10000"), "--fingerprint", foreign]) == 1
    assert "another federation" in capsys.readouterr().err


def test_a_changed_file_is_named(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (outputs / "confs-10000/README.md").write_text("changed")
    assert main(["bundle", "verify", str(outputs / "confs-10000")]) == 1
    assert "README.md" in capsys.readouterr().err
