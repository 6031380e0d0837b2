"""Which machines are reached by SSH."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedparty.config import load
from fedparty.deploy.transport import is_reached_by_ssh, open_transport


@pytest.mark.parametrize(
    ("address", "port", "is_remote"), [("127.0.0.1", 22, False), ("127.0.0.1", 2222, True), ("192.0.2.7", 22, True)]
)
async def test_a_local_address_with_a_port_of_its_own_is_another_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, port: int, is_remote: bool
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    conf = tmp_path / "parties.conf"
    conf.write_text(f"party_list=(10000)\nparty_ip_list=({address})\nuser=fate\nssh_port={port}\n")
    (machine,) = load(conf).federation.parties
    assert is_reached_by_ssh(machine) is is_remote
    transport = open_transport(machine, accept_host_key=False, prompt=None)
    assert transport.is_local is not is_remote
    assert transport.place == (f"fate@{address}:{port}" if is_remote else "this machine")
    await transport.close()
