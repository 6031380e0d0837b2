"""From parties.conf and ~/.ssh/config to the machine that is meant."""

from __future__ import annotations

import getpass
from pathlib import Path

import pytest

from fedparty.deploy.transport.ssh.host import Route, SshHost, find_route
from fedparty.errors import ConfigurationError


def route(folder: Path, text: str, host: SshHost) -> Route:
    (folder / "config").write_text(text)
    return find_route(host, folder / "config")


def test_without_a_configuration_ssh_has_its_own_choice(tmp_path: Path) -> None:
    found = find_route(SshHost("192.0.2.7"), tmp_path / "absent")
    assert (found.hostname, found.port, found.user, found.keys) == ("192.0.2.7", 22, getpass.getuser(), ())
    assert found.place == f"{getpass.getuser()}@192.0.2.7:22"
    assert found.known_name == "192.0.2.7"


def test_parties_conf_wins_over_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "key").touch()
    text = f"Host hospital\n HostName 192.0.2.7\n Port 2222\n User fate\n IdentityFile {tmp_path}/key\n"
    plain = route(tmp_path, text, SshHost("hospital"))
    assert (plain.hostname, plain.port, plain.user, plain.keys) == ("192.0.2.7", 2222, "fate", (tmp_path / "key",))
    assert plain.known_name == "[192.0.2.7]:2222"
    given = route(tmp_path, text, SshHost("hospital", 23, "mine", tmp_path / "other"))
    assert (given.port, given.user, given.keys) == (23, "mine", (tmp_path / "other", tmp_path / "key"))


def test_hops_are_gone_through_in_their_order(tmp_path: Path) -> None:
    text = "Host inner\n ProxyJump first@a.org:23,b.org\nHost b.org\n User second\n"
    jump = route(tmp_path, text, SshHost("inner")).jump
    assert jump is not None
    assert (jump.user, jump.hostname, jump.port) == ("second", "b.org", 22)
    assert jump.jump is not None
    assert (jump.jump.user, jump.jump.hostname, jump.jump.port) == ("first", "a.org", 23)


def test_what_is_not_supported_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="ProxyCommand is not supported"):
        route(tmp_path, "Host *\n ProxyCommand nc %h %p\n", SshHost("inner"))
    assert route(tmp_path, "Host *\n ProxyCommand none\n", SshHost("inner")).jump is None
    with pytest.raises(ConfigurationError, match="config: "):
        route(tmp_path, "Host 'a\n", SshHost("inner"))
