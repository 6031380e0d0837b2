# ruff: noqa: ASYNC220  # a test's own files and programs block nobody
"""One deploy at a time, whoever dies."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from sshd import Relay, Sshd, closing

from fedparty.deploy.transport.ssh import SshTransport
from fedparty.errors import DeployError

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


async def lose(transport: SshTransport, folder: Path, relay: Relay) -> None:
    async with transport.lock(folder):
        relay.cut()
        await asyncio.Event().wait()


async def test_who_loses_the_lock_is_stopped(sshd: Sshd, tmp_path: Path) -> None:
    known = tmp_path / "dot_ssh" / "known_hosts"
    async with Relay(sshd.port) as relay:
        transport = sshd.transport(port=relay.port, known_hosts=known, is_new_host_accepted=True)
        async with closing(transport):
            with pytest.raises(DeployError, match="the lock was lost"):
                await lose(transport, tmp_path, relay)


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
