"""A former leader is refused, also after a restart of whom it calls."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedparty.errors import ConfigurationError, RpcError
from fedparty.rpc.epochs import HighestEpoch


def test_a_lower_epoch_than_was_seen_is_refused(tmp_path: Path) -> None:
    epoch = HighestEpoch(tmp_path / "epoch")
    for admitted in (0, 5, 5, 0, 7):
        epoch.admit(admitted)
    for again in (epoch, HighestEpoch(tmp_path / "epoch")):
        with pytest.raises(RpcError, match="led in epoch 5; now another replica does, in epoch 7") as raised:
            again.admit(5)
        assert raised.value.code == "STALE_LEADER"
        again.admit(7)


def test_without_replicas_there_is_no_file(tmp_path: Path) -> None:
    HighestEpoch(tmp_path / "epoch").admit(0)
    assert not list(tmp_path.iterdir())


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "epoch").write_text("many\n")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        HighestEpoch(tmp_path / "epoch")
