# ruff: noqa: ASYNC221, ASYNC240  # a test's own files and programs block nobody
"""Which machine is trusted: known, new, changed, revoked."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest
from sshd import Person, Sshd, closing, make_key

from fedparty.deploy.commands import Command
from fedparty.deploy.transport import Transport
from fedparty.deploy.transport.ssh.transport import SshTransport
from fedparty.errors import DeployError


async def say_hello(transport: SshTransport) -> str:
    async with closing(transport):
        return (await transport.run(Command(("echo", "hello")))).output


async def refusal(transport: SshTransport) -> DeployError:
    with pytest.raises(DeployError) as raised:
        await say_hello(transport)
    return raised.value


def fingerprint(sshd: Sshd) -> str:
    command = ["ssh-keygen", "-lf", sshd.folder / "host_key.pub"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[1]


@pytest.fixture
def known_hosts(tmp_path: Path) -> Path:
    return tmp_path / "dot_ssh" / "known_hosts"


async def test_a_new_machine_is_refused_where_nobody_can_be_asked(sshd: Sshd, known_hosts: Path) -> None:
    error = await refusal(sshd.transport(known_hosts=known_hosts))
    assert fingerprint(sshd) in error.message
    assert f":{sshd.port} is not known yet" in error.message
    assert "--accept-host-key" in error.hint
    assert not known_hosts.exists()


async def test_a_new_machine_is_remembered_when_the_flag_is_given(sshd: Sshd, known_hosts: Path) -> None:
    accepting = sshd.transport(known_hosts=known_hosts, is_new_host_accepted=True)
    assert await say_hello(accepting) == "hello\n"
    assert known_hosts.read_text() == sshd.host_key_line
    assert known_hosts.stat().st_mode & 0o777 == 0o600
    assert await say_hello(sshd.transport(known_hosts=known_hosts)) == "hello\n"


async def test_ssh_itself_reads_what_was_remembered(sshd: Sshd, known_hosts: Path) -> None:
    known_hosts.parent.mkdir()
    known_hosts.write_text("example.org ssh-ed25519 AAAA")  # without a line break at its end
    await say_hello(sshd.transport(known_hosts=known_hosts, is_new_host_accepted=True))
    options = [f"UserKnownHostsFile={known_hosts}", "StrictHostKeyChecking=yes", "BatchMode=yes"]
    words = [word for option in options for word in ("-o", option)]
    command = ["ssh", *words, "-i", sshd.key, "-p", str(sshd.port), "127.0.0.1", "echo", "hello"]
    assert await asyncio.to_thread(subprocess.check_output, command, text=True) == "hello\n"


async def test_a_person_is_shown_the_fingerprint_and_decides(sshd: Sshd, known_hosts: Path) -> None:
    sceptic = Person([""])
    error = await refusal(sshd.transport(sceptic.prompt(), known_hosts=known_hosts))
    assert "was not accepted" in error.message
    assert fingerprint(sshd) in sceptic.questions[0]
    assert not known_hosts.exists()
    assert await say_hello(sshd.transport(Person(["yes"]).prompt(), known_hosts=known_hosts)) == "hello\n"
    assert known_hosts.read_text() == sshd.host_key_line


async def test_a_machine_that_two_ask_for_at_once_is_asked_about_once(sshd: Sshd, known_hosts: Path) -> None:
    person = Person(["y"])
    prompt = person.prompt()
    transports = [sshd.transport(prompt, known_hosts=known_hosts) for _ in range(3)]
    assert await asyncio.gather(*map(say_hello, transports)) == ["hello\n"] * 3
    assert len(person.questions) == 1


@pytest.mark.parametrize("is_new_host_accepted", [False, True])
async def test_a_changed_key_is_always_refused(sshd: Sshd, known_hosts: Path, is_new_host_accepted: bool) -> None:
    other = (make_key(known_hosts.parent.parent / "other").with_suffix(".pub")).read_text().split()
    known_hosts.parent.mkdir()
    known_hosts.write_text(f"[127.0.0.1]:{sshd.port} {other[0]} {other[1]}\n")
    person = Person(["y"])
    error = await refusal(
        sshd.transport(person.prompt(), known_hosts=known_hosts, is_new_host_accepted=is_new_host_accepted)
    )
    assert "the host key has changed" in error.message
    assert error.message.count("SHA256:") == 2
    assert fingerprint(sshd) in error.message
    assert f"ssh-keygen -f '{known_hosts}' -R '[127.0.0.1]:{sshd.port}'" in error.hint
    assert person.questions == []
    assert len(known_hosts.read_text().splitlines()) == 1


async def test_a_hashed_entry_is_known(sshd: Sshd, known_hosts: Path) -> None:
    known_hosts.parent.mkdir()
    known_hosts.write_text(sshd.host_key_line)
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", known_hosts], check=True, stderr=subprocess.DEVNULL)
    assert known_hosts.read_text().startswith("|1|")
    assert await say_hello(sshd.transport(known_hosts=known_hosts)) == "hello\n"


async def test_a_revoked_key_is_refused(sshd: Sshd, known_hosts: Path) -> None:
    known_hosts.parent.mkdir()
    known_hosts.write_text(f"{sshd.host_key_line}@revoked * {sshd.host_key_line.split(' ', 1)[1]}")
    error = await refusal(sshd.transport(known_hosts=known_hosts, is_new_host_accepted=True))
    assert "is revoked" in error.message


async def test_a_machine_is_asked_for_the_kind_of_key_that_is_known(sshd: Sshd, tmp_path: Path) -> None:
    """The server has an RSA key, too, and would offer that first to who prefers it."""
    make_key(sshd.folder / "host_key_rsa", kind="rsa")
    sshd.stop()
    configuration = sshd.folder / "config"
    sshd.start(passwords=True)
    sshd.stop()
    configuration.write_text(configuration.read_text() + f"HostKey {sshd.folder}/host_key_rsa\n")
    sshd.launch()
    rsa = (sshd.folder / "host_key_rsa.pub").read_text().split()
    for kind, blob in (rsa[:2], (sshd.folder / "host_key.pub").read_text().split()[:2]):
        known_hosts = tmp_path / kind / "known_hosts"
        known_hosts.parent.mkdir()
        known_hosts.write_text(f"[127.0.0.1]:{sshd.port} {kind} {blob}\n")
        assert await say_hello(sshd.transport(known_hosts=known_hosts)) == "hello\n"


def test_transports_are_transports(sshd: Sshd) -> None:
    """The type checker compares the two."""
    transport: Transport = sshd.transport()
    assert transport.place.endswith(f"@127.0.0.1:{sshd.port}")
    assert not transport.is_local
