# ruff: noqa: ASYNC220  # a test's own files and programs block nobody
"""One deploy at a time, whoever dies."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import getpass
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
from sshd import Relay, Sshd, closing

from fedparty.deploy.commands import Command
from fedparty.deploy.transport.ssh import SshTransport, lock
from fedparty.errors import DeployError

MIB = 1024 * 1024

HOLDER = """
import asyncio, sys, pathlib
from fedparty.deploy.transport.prompt import Prompt
from fedparty.deploy.transport.ssh import SshHost, SshTransport
port, key, known_hosts, folder = sys.argv[1:]
async def hold():
    host = SshHost("127.0.0.1", int(port), None, pathlib.Path(key))
    transport = SshTransport(host, pathlib.Path(known_hosts), Prompt(is_there=False))
    async with transport.lock(pathlib.Path(folder)):
        print("held", flush=True)
        await asyncio.Event().wait()
asyncio.run(hold())
"""


async def hold_when_free(sshd: Sshd, folder: Path) -> None:
    """Take the lock; the machine may need a moment to see that its holder is gone."""
    async with closing(sshd.transport()) as transport, asyncio.timeout(20):
        while True:
            with contextlib.suppress(DeployError):
                async with transport.lock(folder):
                    return


async def test_the_second_is_told_who_holds_it_and_since_when(sshd: Sshd, tmp_path: Path) -> None:
    folder = tmp_path / "made by it"
    first, second = sshd.transport(), sshd.transport()
    async with closing(first), closing(second):
        async with first.lock(folder):
            with pytest.raises(DeployError) as raised:
                async with second.lock(folder):
                    pytest.fail("both hold it")
        who = f"{getpass.getuser()}@{socket.gethostname()} (process {os.getpid()})"
        assert f"{second.place}: {folder}: {who} is deploying here since 20" in raised.value.message
        assert raised.value.hint == "Wait until it has ended, then run this again."
        async with second.lock(folder):
            pass
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / ".deploy.lock").read_text() == ""


async def test_the_lock_of_a_killed_deployer_is_free(sshd: Sshd, tmp_path: Path) -> None:
    words = [str(sshd.port), sshd.key, sshd.known_hosts, tmp_path]
    with subprocess.Popen([sys.executable, "-c", HOLDER, *words], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert await asyncio.to_thread(holder.stdout.readline) == "held\n"
        async with closing(sshd.transport()) as transport:
            with pytest.raises(DeployError, match=rf"process {holder.pid}\)"):
                async with transport.lock(tmp_path):
                    pytest.fail("both hold it")
        holder.kill()
    await hold_when_free(sshd, tmp_path)


@contextlib.asynccontextmanager
async def relayed(
    sshd: Sshd, tmp_path: Path, cut_after: list[int] | None = None
) -> AsyncIterator[tuple[Relay, SshTransport]]:
    """Go to the server by a way that can be cut."""
    known = tmp_path / "dot_ssh" / "known_hosts"
    async with Relay(sshd.port, cut_after) as relay:
        transport = sshd.transport(port=relay.port, known_hosts=known, is_new_host_accepted=True)
        async with closing(transport):
            yield relay, transport


def text_of(folder: Path) -> str:
    return (folder / ".deploy.lock").read_text()


async def until_text(folder: Path, text: str) -> None:
    """Wait until the lock file says that it is held again, or, with no text, that the machine ended the session."""
    async with asyncio.timeout(20):
        while text_of(folder) != text:  # noqa: ASYNC110  # a file tells nobody
            await asyncio.sleep(0.02)


async def require_held(sshd: Sshd, folder: Path) -> None:
    async with closing(sshd.transport()) as second:
        with pytest.raises(DeployError, match=rf"process {os.getpid()}\) is deploying here since"):
            async with second.lock(folder):
                pytest.fail("both hold it")


async def require_free(sshd: Sshd, folder: Path) -> None:
    async with closing(sshd.transport()) as second, second.lock(folder):
        pass


async def test_a_lock_whose_connection_was_cut_is_taken_again_while_the_work_goes_on(
    sshd: Sshd, tmp_path: Path
) -> None:
    async with relayed(sshd, tmp_path) as (relay, transport):
        async with transport.lock(tmp_path):
            text = text_of(tmp_path)
            relay.shut()
            await until_text(tmp_path, "")
            relay.is_shut = False
            await until_text(tmp_path, text)
            await require_held(sshd, tmp_path)
            assert (await transport.run(Command(("echo", "goes on")))).output == "goes on\n"
        assert relay.connections == 2
        await require_free(sshd, tmp_path)


async def test_a_file_that_is_sent_over_connections_that_break_is_not_ended_by_the_lock(
    sshd: Sshd, tmp_path: Path
) -> None:
    source, target = tmp_path / "image.tar", tmp_path / "there" / "image.tar"
    source.write_bytes(os.urandom(12 * MIB))
    async with relayed(sshd, tmp_path, [8 * MIB, 6 * MIB]) as (relay, transport):
        async with transport.lock(target.parent):
            text = text_of(target.parent)
            await transport.send_file(source, target)
            await until_text(target.parent, text)
            await require_held(sshd, target.parent)
        assert relay.connections >= 2
    assert target.read_bytes() == source.read_bytes()


async def test_the_own_session_that_the_machine_did_not_end_yet_is_waited_for(sshd: Sshd, tmp_path: Path) -> None:
    async with relayed(sshd, tmp_path) as (relay, transport), transport.lock(tmp_path):
        text = text_of(tmp_path)
        relay.shut()
        await until_text(tmp_path, "")
        with (tmp_path / ".deploy.lock").open("r+") as session:
            fcntl.flock(session, fcntl.LOCK_EX)
            session.write(text)
            session.flush()
            relay.is_shut = False
            (await transport.run(Command(("sleep", "1")))).require("the work goes on")
            session.truncate(0)
        await until_text(tmp_path, text)


async def lose(transport: SshTransport, folder: Path, relay: Relay, sshd: Sshd) -> None:
    async with transport.lock(folder):
        relay.shut()
        await until_text(folder, "")
        async with closing(sshd.transport()) as other, other.lock(folder):
            relay.is_shut = False
            await asyncio.Event().wait()


async def test_who_finds_that_another_deployer_took_the_lock_is_stopped_and_told_who(
    sshd: Sshd, tmp_path: Path
) -> None:
    async with relayed(sshd, tmp_path) as (relay, transport):
        with pytest.raises(DeployError) as raised:
            await lose(transport, tmp_path, relay, sshd)
    who = f"{getpass.getuser()}@{socket.gethostname()} (process {os.getpid()})"
    lost = f"the lock was lost: {transport.place}: {tmp_path}: {who} is deploying here since 20"
    assert raised.value.message.startswith(lost)
    await require_free(sshd, tmp_path)


async def cut_for_good(transport: SshTransport, folder: Path, relay: Relay) -> None:
    async with transport.lock(folder):
        relay.shut()
        await asyncio.Event().wait()


async def test_who_cannot_take_the_lock_again_in_time_is_stopped(
    sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "_AGAIN_WITHIN_S", 1.0)
    async with relayed(sshd, tmp_path) as (relay, transport):
        with pytest.raises(DeployError, match=r"the lock was lost: .*: is reached, but did not answer"):
            await cut_for_good(transport, tmp_path, relay)
    await hold_when_free(sshd, tmp_path)


async def fail_while_cut(transport: SshTransport, folder: Path, relay: Relay) -> None:
    async with transport.lock(folder):
        relay.shut()
        await until_text(folder, "")
        raise ZeroDivisionError


async def test_work_that_fails_while_the_connection_is_gone_does_not_wait_for_the_lock(
    sshd: Sshd, tmp_path: Path
) -> None:
    async with relayed(sshd, tmp_path) as (relay, transport), asyncio.timeout(20):
        with pytest.raises(ZeroDivisionError):
            await fail_while_cut(transport, tmp_path, relay)
    await require_free(sshd, tmp_path)


async def end_what_holds(folder: Path, transport: SshTransport) -> None:
    async with transport.lock(folder):
        for process in psutil.process_iter(["cmdline"]):
            if str(folder) in (words := process.info["cmdline"] or []) and any("flock -n" in word for word in words):
                process.kill()
        await asyncio.Event().wait()


async def test_who_loses_the_lock_on_a_connection_that_is_there_is_stopped(sshd: Sshd, tmp_path: Path) -> None:
    async with closing(sshd.transport()) as transport:
        with pytest.raises(DeployError) as raised:
            await end_what_holds(tmp_path, transport)
    assert str(raised.value) == f"the lock was lost: {transport.place}: {tmp_path}: what held it was ended"
    await hold_when_free(sshd, tmp_path)


async def test_an_error_inside_comes_out_as_it_is_and_frees_the_lock(sshd: Sshd, tmp_path: Path) -> None:
    async with closing(sshd.transport()) as transport:
        with pytest.raises(ZeroDivisionError):
            async with transport.lock(tmp_path):
                raise ZeroDivisionError
        async with transport.lock(tmp_path):
            pass


async def test_a_folder_that_cannot_be_made_is_told(sshd: Sshd, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    async with closing(sshd.transport()) as transport:
        with pytest.raises(DeployError, match="is not a folder of this user"):
            async with transport.lock(tmp_path / "file"):
                pytest.fail("held")
