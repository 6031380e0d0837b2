# ruff: noqa: ASYNC221  # a test's own files and programs block nobody
"""Connections that are slow, silent, lost or shared."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil
import pytest
from ports import free_port
from sshd import Relay, Sshd, User, closing, nobody, running_sshd, throw_away_user

from fedparty.deploy.commands import Command
from fedparty.deploy.transport.ssh import SshHost, SshTransport, connection
from fedparty.errors import DeployError

MIB = 1 << 20


@pytest.fixture(scope="module")
def user() -> Iterator[User]:
    with throw_away_user() as made:
        yield made


@contextlib.asynccontextmanager
async def through(relay: Relay, sshd: Sshd, folder: Path) -> AsyncIterator[SshTransport]:
    """Yield a transport by way of the relay."""
    known = folder / "dot_ssh" / "known_hosts"
    transport = sshd.transport(port=relay.port, known_hosts=known, is_new_host_accepted=True)
    async with closing(transport):
        yield transport


async def failure(transport: SshTransport) -> DeployError:
    async with closing(transport):
        with pytest.raises(DeployError) as raised:
            await transport.run(Command(("true",)))
    return raised.value


async def test_a_machine_that_never_answers_is_named_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert connection.NEGOTIATION_TIMEOUT_S < 15
    assert connection.CONNECT_TIMEOUT_S < 15
    monkeypatch.setattr(connection, "NEGOTIATION_TIMEOUT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        started = time.monotonic()
        error = await failure(SshTransport(SshHost("127.0.0.1", port, "fate"), tmp_path / "known", nobody()))
    assert error.message.startswith(f"fate@127.0.0.1:{port}: is reached, but did not answer as an SSH server")
    assert time.monotonic() - started < 5


async def test_what_speaks_something_else_is_no_ssh_server(tmp_path: Path) -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        error = await failure(SshTransport(SshHost("127.0.0.1", port), tmp_path / "known", nobody()))
    assert "did not answer as an SSH server" in error.message


async def test_a_closed_port_and_an_unknown_name_are_told(tmp_path: Path) -> None:
    closed = SshTransport(SshHost("127.0.0.1", free_port(), "fate"), tmp_path / "known", nobody())
    assert "cannot be reached: Connect" in (await failure(closed)).message
    unknown = SshTransport(SshHost("no-such-host.invalid", 22, "fate"), tmp_path / "known", nobody())
    assert (await failure(unknown)).message.startswith("fate@no-such-host.invalid:22: cannot be reached")


async def test_nothing_connects_before_it_is_needed_and_one_connection_serves_all(sshd: Sshd, tmp_path: Path) -> None:
    async with Relay(sshd.port) as relay, through(relay, sshd, tmp_path) as transport:
        assert relay.connections == 0
        await asyncio.gather(*(transport.run(Command(("true",))) for _ in range(12)))
        assert relay.connections == 1


async def test_a_connection_lost_during_a_command_is_told_and_made_again(sshd: Sshd, tmp_path: Path) -> None:
    async with Relay(sshd.port) as relay, through(relay, sshd, tmp_path) as transport:
        with pytest.raises(DeployError, match=r"the connection was lost while this ran: sh -c .*echo begun"):
            await transport.run(Command(("sh", "-c", "echo begun; sleep 60")), on_line=lambda _: relay.cut())
        assert (await transport.run(Command(("echo", "again")))).output == "again\n"
        assert relay.connections == 2


async def test_a_read_is_repeated_once(sshd: Sshd, tmp_path: Path) -> None:
    """The connection breaks in the middle of what is read."""
    (tmp_path / "big").write_bytes(os.urandom(20 * MIB))
    async with Relay(sshd.port, cut_back_after=[5 * MIB]) as relay, through(relay, sshd, tmp_path) as transport:
        assert await transport.read(tmp_path / "big") == (tmp_path / "big").read_bytes()
        assert relay.connections == 2


async def test_a_dropped_transfer_goes_on_where_it_was(sshd: Sshd, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(os.urandom(20 * MIB))
    told: list[int] = []
    async with (
        Relay(sshd.port, cut_after=[8 * MIB, 6 * MIB]) as relay,
        through(relay, sshd, tmp_path) as transport,
    ):
        await transport.send_file(
            tmp_path / "source", tmp_path / "target", on_progress=lambda sent, _: told.append(sent)
        )
        assert relay.connections == 3
        assert relay.passed < 26 * MIB  # what was there was not sent again
    assert (tmp_path / "target").read_bytes() == (tmp_path / "source").read_bytes()
    assert not (tmp_path / "target.part").exists()


async def test_a_part_of_another_file_does_not_spoil_a_transfer(sshd: Sshd, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"right" * MIB)
    for old in (b"wrong" * 1000, b"wrong" * 2 * MIB):
        (tmp_path / "target.part").write_bytes(old)
        async with closing(sshd.transport()) as transport:
            await transport.send_file(tmp_path / "source", tmp_path / "target")
        assert (tmp_path / "target").read_bytes() == (tmp_path / "source").read_bytes()


async def test_a_transfer_that_always_breaks_ends(sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedparty.deploy.transport.ssh.sending._WAIT_MAX_S", 0.01)
    monkeypatch.setattr("fedparty.deploy.transport.ssh.sending._WAIT_MIN_S", 0)
    (tmp_path / "source").write_bytes(os.urandom(MIB))
    async with (
        Relay(sshd.port, cut_after=[100_000] * 99) as relay,
        through(relay, sshd, tmp_path) as transport,
    ):
        with pytest.raises(DeployError, match="the connection was lost"):
            await transport.send_file(tmp_path / "source", tmp_path / "target")
        assert relay.connections < 12
    assert not (tmp_path / "target").exists()


async def test_a_half_written_file_never_counts(sshd: Sshd, tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "big").write_bytes(os.urandom(3 * MIB))
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "old").write_text("old")
    async with Relay(sshd.port, cut_after=[MIB, MIB]) as relay, through(relay, sshd, tmp_path) as transport:
        with pytest.raises(DeployError, match="the connection was lost"):
            await transport.upload(tmp_path / "bundle", tmp_path / "target")
        with pytest.raises(DeployError, match="the connection was lost"):
            await transport.write(tmp_path / "target" / "old", os.urandom(3 * MIB))
        assert await transport.read(tmp_path / "target" / "old") == b"old"


async def test_what_login_shells_write_is_passed_over(sshd: Sshd, user: User) -> None:
    """Bash reads ~/.bashrc when sshd starts it."""
    (user.home / ".bashrc").write_text("echo Welcome; echo 12345; printf %s 'no line end'\n")
    os.system(f"usermod -s /bin/bash {user.name}")
    async with closing(sshd.transport(user=user.name)) as transport:
        assert (await transport.run(Command(("echo", "hello")))).output == "hello\n"


async def test_a_user_without_a_shell_is_told_what_it_said(sshd: Sshd, user: User) -> None:
    os.system(f"usermod -s /usr/sbin/nologin {user.name}")
    error = await failure(sshd.transport(user=user.name))
    assert "the login shell did not run a command: This account is currently not available" in error.message


async def test_close_leaves_no_thread_and_no_socket(sshd: Sshd, tmp_path: Path) -> None:
    before = set(threading.enumerate())
    files = psutil.Process().num_fds()
    transport = sshd.transport()
    await asyncio.gather(*(transport.run(Command(("true",))) for _ in range(4)))
    task = asyncio.create_task(transport.run(Command(("sleep", "60")), timeout_s=0.5))
    with pytest.raises(DeployError, match="did not end"):
        await task
    await transport.close()
    await transport.close()
    left = [thread.name for thread in set(threading.enumerate()) - before if not thread.name.startswith("asyncio_")]
    assert left == []
    assert psutil.Process().num_fds() <= files


async def test_close_ends_what_runs(sshd: Sshd) -> None:
    transport = sshd.transport()
    begun = asyncio.Event()
    command = Command(("sh", "-c", "echo begun; sleep 60"))
    task = asyncio.create_task(transport.run(command, on_line=lambda _: begun.set()))
    await begun.wait()
    await transport.close()
    with pytest.raises(DeployError, match="the connection was lost"):
        await task


async def test_a_session_that_the_machine_refuses_for_a_moment_is_tried_again() -> None:
    with running_sshd() as strict:
        strict.stop()
        with (strict.folder / "config").open("a") as config:
            config.write("MaxSessions 1\n")
        strict.launch()
        async with closing(strict.transport()) as transport:
            first, second = await asyncio.gather(
                transport.run(Command(("sleep", "0.3"))), transport.run(Command(("echo", "second")))
            )
            assert (first.code, second.output) == (0, "second\n")
            with pytest.raises(DeployError, match="sshd refuses another session"):
                await asyncio.gather(*(transport.run(Command(("sleep", "5"))) for _ in range(2)))


async def test_no_sftp_is_needed(sshd: Sshd) -> None:
    """The server has none, and all other tests pass with it."""
    assert "sftp" not in (sshd.folder / "config").read_text()


@pytest.mark.matrix
async def test_a_silent_machine_is_told_within_fifteen_seconds(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        await failure(SshTransport(SshHost("127.0.0.1", silent.getsockname()[1]), tmp_path / "known", nobody()))
    assert time.monotonic() - started < 15
