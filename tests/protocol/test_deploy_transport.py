"""What every transport must do, held by one class; run on each."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from fedparty.deploy.commands import Command
from fedparty.deploy.transport import LocalTransport, Transport
from fedparty.errors import DeployError


class TransportConformance:
    """`fedparty.deploy.transport.base.Transport`, whatever is behind it."""

    @pytest.fixture
    def transport(self) -> Transport:
        raise NotImplementedError

    async def test_run_tells_code_output_and_errors(self, transport: Transport, tmp_path: Path) -> None:
        script = "echo out; echo err >&2; pwd; echo $WORD; exit 3"
        done = await transport.run(
            Command(("sh", "-c", script), tmp_path, {"WORD": "given", "PATH": os.environ["PATH"]})
        )
        assert (done.code, done.output.splitlines(), done.errors) == (3, ["out", str(tmp_path), "given"], "err\n")
        with pytest.raises(DeployError, match=r"sh -c .* ended with 3"):
            done.require("party 1")

    async def test_lines_come_while_the_command_runs(self, transport: Transport, tmp_path: Path) -> None:
        """The command ends only after its first line was seen."""
        gate = tmp_path / "gate"
        os.mkfifo(gate)
        lines: list[str] = []

        def on_line(line: str) -> None:
            lines.append(line)
            if line == "first":
                gate.open("w").close()

        done = await transport.run(Command(("sh", "-c", f"echo first; cat {gate}; printf last")), on_line=on_line)
        assert lines == ["first", "last"]
        assert done.output == ""

    async def test_a_long_line_is_one_line(self, transport: Transport) -> None:
        lines: list[str] = []
        await transport.run(Command((sys.executable, "-c", "print('x' * 300000)")), on_line=lines.append)
        assert list(map(len, lines)) == [300000]

    async def test_an_unknown_program_is_named(self, transport: Transport) -> None:
        with pytest.raises(DeployError, match="no-such-program cannot be run"):
            await transport.run(Command(("no-such-program",)))

    async def test_time_out_kills_all_that_was_started(self, transport: Transport, tmp_path: Path) -> None:
        pid_file = tmp_path / "pid"
        with pytest.raises(DeployError, match=r"did not end within 0\.3 s"):
            await transport.run(Command(("sh", "-c", f"sleep 60 & echo $! > {pid_file}; wait")), timeout_s=0.3)
        assert_ends(int(pid_file.read_text()))

    async def test_cancellation_kills_too(self, transport: Transport, tmp_path: Path) -> None:
        started = asyncio.Event()
        command = Command(("sh", "-c", "echo $$; exec sleep 60"))
        pids: list[str] = []
        task = asyncio.create_task(transport.run(command, on_line=lambda line: (pids.append(line), started.set())[0]))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert_ends(int(pids[0]))

    async def test_upload_replaces_a_folder_and_keeps_modes(self, transport: Transport, tmp_path: Path) -> None:
        source, target = tmp_path / "source", tmp_path / "target"
        (source / "deep").mkdir(parents=True)
        (source / "deep/secret").write_text("secret")
        (source / "deep/secret").chmod(0o600)
        target.mkdir()
        (target / "old").write_text("")
        await transport.upload(source, target)
        assert [str(path.relative_to(target)) for path in sorted(target.rglob("*"))] == ["deep", "deep/secret"]
        assert (target / "deep/secret").stat().st_mode & 0o777 == 0o600
        assert target.stat().st_mode & 0o777 == 0o700

    async def test_replace_moves_by_rename(self, transport: Transport, tmp_path: Path) -> None:
        source, target = tmp_path / "source", tmp_path / "target"
        source.mkdir()
        target.mkdir()
        (source / "a").write_text("new")
        (target / "a").write_text("old")
        moved = (source / "a").stat().st_ino
        await transport.replace(source, target, ["a"])
        assert (target / "a").stat().st_ino == moved
        assert not (source / "a").exists()

    async def test_read_write_remove(self, transport: Transport, tmp_path: Path) -> None:
        path = tmp_path / "file"
        assert await transport.read(path) is None
        await transport.write(path, b"content")
        assert await transport.read(path) == b"content"
        assert path.stat().st_mode & 0o777 == 0o600
        await transport.remove(path)
        await transport.remove(path)
        assert await transport.read(path) is None

    async def test_remove_takes_a_link_not_what_it_leads_to(self, transport: Transport, tmp_path: Path) -> None:
        (tmp_path / "kept").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "kept")
        await transport.remove(tmp_path / "link")
        assert (tmp_path / "kept").is_dir()
        assert not (tmp_path / "link").is_symlink()

    async def test_a_second_deploy_is_told_who_and_since_when(self, transport: Transport, tmp_path: Path) -> None:
        async with transport.lock(tmp_path):
            with pytest.raises(DeployError, match=rf"\(process {os.getpid()}\) is deploying here since 20"):
                async with transport.lock(tmp_path):
                    pass
        async with transport.lock(tmp_path):
            pass


class TestLocalTransport(TransportConformance):
    @pytest.fixture
    def transport(self) -> Transport:
        return LocalTransport()

    def test_the_lock_of_a_killed_deploy_is_free(self, tmp_path: Path) -> None:
        program = (
            "import asyncio, sys, pathlib\n"
            "from fedparty.deploy.transport import LocalTransport\n"
            "async def hold():\n"
            "    async with LocalTransport().lock(pathlib.Path(sys.argv[1])):\n"
            "        print('held', flush=True)\n"
            "        await asyncio.Event().wait()\n"
            "asyncio.run(hold())\n"
        )
        with subprocess.Popen([sys.executable, "-c", program, tmp_path], stdout=subprocess.PIPE, text=True) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(DeployError, match=rf"process {holder.pid}\)"):
                asyncio.run(hold_briefly(tmp_path))
            holder.kill()
        asyncio.run(hold_briefly(tmp_path))


async def hold_briefly(folder: Path) -> None:
    async with LocalTransport().lock(folder):
        pass


def assert_ends(pid: int) -> None:
    """A killed process may have to be reaped by somebody else."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return
        except psutil.NoSuchProcess:
            return
    pytest.fail(f"process {pid} goes on")
