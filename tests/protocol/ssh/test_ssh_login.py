# a test's own files and programs block nobody
"""Who gets in: keys, agents, passphrases, passwords, and what is said to who does not."""

from __future__ import annotations

import getpass
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from sshd import Person, Relay, Sshd, User, closing, make_key, throw_away_user

from fedparty.deploy.commands import Command
from fedparty.deploy.transport.ssh import SshHost, SshTransport
from fedparty.errors import ConfigurationError, DeployError

SSH_COPY_ID = "ssh-copy-id -p"


async def who_am_i(transport: SshTransport) -> str:
    async with closing(transport):
        return (await transport.run(Command(("id", "-un")))).output.strip()


async def refusal(transport: SshTransport) -> DeployError:
    with pytest.raises(DeployError) as raised:
        await who_am_i(transport)
    return raised.value


@pytest.fixture(scope="module")
def user() -> Iterator[User]:
    with throw_away_user() as made:
        yield made


@pytest.fixture
def encrypted(sshd: Sshd, tmp_path: Path) -> Path:
    """A key that the server accepts, with the passphrase ``swordfish``."""
    key = Path(shutil.copy(sshd.key, tmp_path / "encrypted"))
    command = ["ssh-keygen", "-q", "-p", "-P", "", "-N", "swordfish", "-f", key]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return key


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An agent without keys."""
    socket = tmp_path / "agent"
    with subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        yield
        process.terminate()


def add_to_agent(key: Path) -> None:
    subprocess.run(["ssh-add", "-q", key], check=True, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


async def test_a_key_lets_in_unasked(sshd: Sshd) -> None:
    person = Person([])
    assert await who_am_i(sshd.transport(person.prompt())) == getpass.getuser()
    assert person.questions == []


@pytest.mark.parametrize("kind", ["rsa", "ecdsa"])
async def test_keys_of_each_kind_let_in(sshd: Sshd, tmp_path: Path, kind: str) -> None:
    key = make_key(tmp_path / "key", kind=kind)
    with (sshd.folder / "authorized_keys").open("a") as file:
        file.write((tmp_path / "key.pub").read_text())
    assert await who_am_i(sshd.transport(key=key)) == getpass.getuser()


async def test_a_refused_key_is_named_with_the_remedy(sshd: Sshd, tmp_path: Path) -> None:
    stranger = make_key(tmp_path / "stranger")
    error = await refusal(sshd.transport(key=stranger))
    assert f"{getpass.getuser()}@127.0.0.1:{sshd.port}: the login was refused ({stranger})" in error.message
    assert "nobody can be asked for a password" in error.message
    assert f"{SSH_COPY_ID} {sshd.port} {getpass.getuser()}@127.0.0.1" in error.hint


async def test_a_missing_or_broken_key_is_named(sshd: Sshd, tmp_path: Path) -> None:
    assert "No such file" in (await refusal(sshd.transport(key=tmp_path / "absent"))).message
    (tmp_path / "broken").write_text("no key")
    assert "is not a private key" in (await refusal(sshd.transport(key=tmp_path / "broken"))).message


async def test_the_passphrase_of_a_key_is_asked_until_it_is_right(sshd: Sshd, encrypted: Path) -> None:
    person = Person(["wrong", "swordfish"])
    assert await who_am_i(sshd.transport(person.prompt(), key=encrypted)) == getpass.getuser()
    assert all(str(encrypted) in question for question in person.questions)
    assert person.answers == []


async def test_a_passphrase_is_asked_three_times_at_most(sshd: Sshd, encrypted: Path) -> None:
    person = Person(["wrong"] * 9)
    assert "passphrase is wrong" in (await refusal(sshd.transport(person.prompt(), key=encrypted))).message
    assert len(person.questions) == 3


async def test_an_encrypted_key_where_nobody_can_be_asked_is_told(sshd: Sshd, encrypted: Path) -> None:
    error = await refusal(sshd.transport(key=encrypted))
    assert f"{encrypted} (needs a passphrase, and nobody can be asked: ssh-add it)" in error.message


@pytest.mark.usefixtures("agent")
async def test_the_agent_lets_in(sshd: Sshd) -> None:
    add_to_agent(sshd.key)
    assert await who_am_i(sshd.transport(is_key_given=False)) == getpass.getuser()


@pytest.mark.usefixtures("agent")
async def test_an_encrypted_key_that_the_agent_holds_needs_no_passphrase(sshd: Sshd, encrypted: Path) -> None:
    shutil.copy(f"{sshd.key}.pub", f"{encrypted}.pub")
    add_to_agent(sshd.key)
    assert await who_am_i(sshd.transport(key=encrypted)) == getpass.getuser()


@pytest.mark.usefixtures("agent")
async def test_an_agent_full_of_strangers_leaves_a_try_for_the_password(sshd: Sshd, tmp_path: Path, user: User) -> None:
    for number in range(8):
        add_to_agent(make_key(tmp_path / str(number)))
    person = Person([user.password])
    assert await who_am_i(sshd.transport(person.prompt(), user=user.name, is_key_given=False)) == user.name


async def test_a_usual_file_lets_in(sshd: Sshd, tmp_path: Path) -> None:
    shutil.copy(sshd.key, tmp_path / "id_ed25519")
    shutil.copy(sshd.known_hosts, tmp_path / "known_hosts")
    transport = sshd.transport(is_key_given=False, known_hosts=tmp_path / "known_hosts")
    assert await who_am_i(transport) == getpass.getuser()


async def test_a_password_is_asked_when_no_key_helps_and_only_once(sshd: Sshd, user: User) -> None:
    person = Person(["wrong", user.password])
    async with Relay(sshd.port) as relay:
        known = sshd.folder / "relay" / "known_hosts"
        transport = sshd.transport(
            person.prompt(), port=relay.port, user=user.name, is_key_given=False, known_hosts=known,
            is_new_host_accepted=True,
        )  # fmt: skip
        async with closing(transport):
            assert (await transport.run(Command(("id", "-un")))).output.strip() == user.name
            assert person.questions == [f"{user.name}@127.0.0.1:{relay.port}: password: "] * 2
            relay.cut()
            assert await transport.read(user.home / "absent") is None
    assert len(person.questions) == 2


async def test_a_password_is_asked_three_times_at_most(sshd: Sshd, user: User) -> None:
    person = Person(["wrong"] * 9)
    error = await refusal(sshd.transport(person.prompt(), user=user.name, is_key_given=False))
    assert "the password was refused" in error.message
    assert len(person.questions) == 3


async def test_ssh_config_names_the_machine_and_parties_conf_wins(sshd: Sshd, tmp_path: Path, user: User) -> None:
    shutil.copy(sshd.known_hosts, tmp_path / "known_hosts")
    (tmp_path / "config").write_text(
        f"Host hospital\n HostName 127.0.0.1\n Port {sshd.port}\n User {user.name}\n IdentityFile {sshd.key}\n"
    )
    plain = SshTransport(SshHost("hospital"), tmp_path / "known_hosts", Person([]).prompt())
    assert plain.place == f"{user.name}@hospital:{sshd.port}"
    assert await who_am_i(plain) == user.name
    mine = getpass.getuser()
    named = SshTransport(SshHost("hospital", user=mine), tmp_path / "known_hosts", Person([]).prompt())
    assert await who_am_i(named) == mine


async def test_a_machine_behind_another_is_reached_through_it(sshd: Sshd, tmp_path: Path) -> None:
    shutil.copy(sshd.known_hosts, tmp_path / "known_hosts")
    (tmp_path / "config").write_text(
        f"Host gate inner\n HostName 127.0.0.1\n Port {sshd.port}\n IdentityFile {sshd.key}\n"
        "Host inner\n ProxyJump gate\n"
    )
    inner = SshTransport(SshHost("inner"), tmp_path / "known_hosts", Person([]).prompt())
    async with closing(inner):
        done = await inner.run(Command(("sh", "-c", "echo $SSH_CONNECTION")))
        assert done.output.split()[2:] == ["127.0.0.1", str(sshd.port)]


async def test_a_proxy_command_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("Host *\n ProxyCommand nc %h %p\n")
    with pytest.raises(ConfigurationError, match="ProxyCommand is not supported"):
        SshTransport(SshHost("inner"), tmp_path / "known_hosts", Person([]).prompt())
