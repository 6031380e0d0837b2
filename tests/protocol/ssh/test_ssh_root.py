# ruff: noqa: ASYNC240  # a test's own files and programs block nobody
"""Becoming root: with sudo, with its password, and not at all. Makes users, so only root runs these."""

from __future__ import annotations

import asyncio
import stat
import tempfile
import time
from pathlib import Path

import psutil
import pytest
from sshd import Person, Sshd, closing, throw_away_user

from fedparty.deploy.commands import Command
from fedparty.errors import DeployError

WHO = Command(("id", "-u"), as_root=True)


async def test_sudo_without_a_password(sshd: Sshd) -> None:
    with throw_away_user("NOPASSWD: ALL") as user:
        async with closing(sshd.transport(user=user.name)) as transport:
            assert (await transport.run(WHO)).output == "0\n"
            assert (await transport.run(Command(("id", "-un")))).output == f"{user.name}\n"
            given = await transport.run(Command(("cat",), as_root=True), source=[b"as it is"])
            assert given.output == "as it is\n"
            with pytest.raises(DeployError, match="no-such-program is not installed"):
                await transport.run(Command(("no-such-program",), as_root=True))


async def test_sudo_for_one_program_only(sshd: Sshd) -> None:
    with throw_away_user("NOPASSWD: /usr/bin/id") as user:
        async with closing(sshd.transport(user=user.name)) as transport:
            assert (await transport.run(WHO)).output == "0\n"
            with pytest.raises(DeployError, match="cat needs root here") as raised:
                await transport.run(Command(("cat",), as_root=True))
    assert "NOPASSWD" in raised.value.hint


async def test_sudo_asks_a_person_once_and_the_command_reads_its_own_input(sshd: Sshd) -> None:
    with throw_away_user("ALL") as user:
        person = Person(["wrong", user.password])
        async with closing(sshd.transport(person.prompt(), user=user.name)) as transport:
            given = await transport.run(Command(("cat",), as_root=True), source=[b"as ", b"it is"])
            assert given.output == "as it is\n"
            assert (await transport.run(WHO)).output == "0\n"
        assert person.questions == [f"{transport.place}: sudo password: "] * 2


async def test_the_login_password_is_tried_for_sudo_unasked(sshd: Sshd) -> None:
    with throw_away_user("ALL") as user:
        person = Person([user.password])
        transport = sshd.transport(person.prompt(), user=user.name, is_key_given=False)
        async with closing(transport):
            assert (await transport.run(WHO)).output == "0\n"
        assert len(person.questions) == 1


async def test_a_password_that_nobody_gives_is_told_with_the_remedy(sshd: Sshd) -> None:
    with throw_away_user("ALL") as user:
        async with closing(sshd.transport(user=user.name)) as transport:
            with pytest.raises(DeployError, match="docker needs root here") as raised:
                await transport.run(Command(("docker", "ps"), as_root=True))
    assert raised.value.message.endswith("a password is required")
    assert "usermod -aG docker" in raised.value.hint
    assert "NOPASSWD" in raised.value.hint


@pytest.mark.parametrize("rule", ["NOPASSWD: ALL", "ALL"])
async def test_what_runs_as_root_is_killed_too(sshd: Sshd, rule: str) -> None:
    with throw_away_user(rule) as user:
        person = Person([user.password])
        async with closing(sshd.transport(person.prompt(), user=user.name)) as transport:
            command = Command(("sh", "-c", "sleep 60 & echo $!; wait"), as_root=True)
            pids: list[str] = []
            begun = asyncio.Event()
            task = asyncio.create_task(transport.run(command, on_line=lambda line: (pids.append(line), begun.set())[0]))
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert_ends(int(pids[0]))


async def test_root_makes_the_folder_where_the_user_may_not(sshd: Sshd) -> None:
    with throw_away_user("NOPASSWD: ALL") as user, tempfile.TemporaryDirectory(prefix="fpt-root-") as name:
        Path(name).chmod(0o755)
        folder = Path(name) / "projects" / "fedparty"
        async with closing(sshd.transport(user=user.name)) as transport:
            await transport.make_folder(folder)
            found = folder.stat()
            assert (folder.owner(), stat.S_IMODE(found.st_mode)) == (user.name, 0o700)
            await transport.write(folder / "file", b"mine")
            await transport.make_folder(folder)


async def test_a_folder_that_the_user_may_not_make_is_told(sshd: Sshd) -> None:
    with throw_away_user() as user:
        async with closing(sshd.transport(user=user.name)) as transport:
            with pytest.raises(DeployError, match="needs root here"):
                await transport.make_folder(Path("/fpt-not-allowed"))
            with pytest.raises(DeployError, match="/etc: is not a folder of this user"):
                await transport.make_folder(Path("/etc"))


def assert_ends(pid: int) -> None:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return
    pytest.fail(f"process {pid} goes on")
