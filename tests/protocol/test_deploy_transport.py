"""What every transport must do, held by one class; run on each."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil
import pytest
from sshd import Sshd, running_sshd

from fedparty.deploy.commands import Command
from fedparty.deploy.transport import FileState, LocalTransport, Transport
from fedparty.errors import DeployError


@pytest.fixture(scope="module")
def sshd() -> Iterator[Sshd]:
    with running_sshd() as server:
        yield server


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class TransportConformance:
    """`fedparty.deploy.transport.base.Transport`, whatever is behind it."""

    @pytest.fixture
    async def transport(self) -> Transport:
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
        with pytest.raises(DeployError, match=f"^{transport.place}: no-such-program is not installed$") as raised:
            await transport.run(Command(("no-such-program",)))
        assert "Install it there" in raised.value.hint

    async def test_an_exit_code_of_its_own_is_no_missing_program(self, transport: Transport) -> None:
        assert (await transport.run(Command(("sh", "-c", "exit 127")))).code == 127

    async def test_a_missing_working_directory_is_named(self, transport: Transport, tmp_path: Path) -> None:
        with pytest.raises(DeployError, match=f"{tmp_path}/absent is not there"):
            await transport.run(Command(("true",), tmp_path / "absent"))

    async def test_a_command_reads_what_is_given_and_else_nothing(self, transport: Transport) -> None:
        assert (await transport.run(Command(("cat",)), timeout_s=10)).output == ""
        given = await transport.run(Command(("sha256sum",)), source=(b"x" * 100_000 for _ in range(50)))
        assert given.output.split()[0] == hashlib.sha256(b"x" * 5_000_000).hexdigest()

    async def test_a_command_that_reads_less_than_is_given_ends(self, transport: Transport) -> None:
        done = await transport.run(Command(("head", "-c", "3")), source=(b"abcdef" * 10_000 for _ in range(100)))
        assert (done.code, done.output) == (0, "abc\n")

    async def test_a_source_that_fails_is_told(self, transport: Transport) -> None:
        def source() -> Iterator[bytes]:
            yield b"begun"
            raise OSError("the disk is gone")

        with pytest.raises(OSError, match="the disk is gone"):
            await transport.run(Command(("cat",)), source=source(), timeout_s=10)

    async def test_words_arrive_as_they_are(self, transport: Transport, tmp_path: Path) -> None:
        folder = tmp_path / "mit Leerzeichen & 'ü' $(x)"
        folder.mkdir()
        words = ("a b", "", "'", '"', "$HOME", "`id`", "*", "\\n", "日本", "-n")
        command = Command(("printf", "%s\n", *words), folder, {"PATH": os.environ["PATH"], "WORD": "a 'b' $c"})
        assert (await transport.run(command)).output.splitlines() == list(words)
        assert (await transport.run(Command(("pwd",), folder))).output == f"{folder}\n"

    async def test_a_multibyte_character_in_two_chunks_is_one(self, transport: Transport) -> None:
        script = r"printf 'a\303'; sleep 0.1; printf '\274b'"
        assert (await transport.run(Command(("sh", "-c", script)))).output == "aüb\n"

    async def test_much_output_on_both_streams_blocks_nothing(self, transport: Transport) -> None:
        """50 MB: more than any window or pipe holds."""
        script = "head -c 25000000 /dev/zero | tr '\\0' 'e' >&2; head -c 25000000 /dev/zero | tr '\\0' 'o'"
        done = await transport.run(Command(("sh", "-c", script)), timeout_s=60)
        assert (len(done.output), len(done.errors)) == (25_000_001, 25_000_001)

    async def test_commands_run_side_by_side(self, transport: Transport, tmp_path: Path) -> None:
        """Each of eight waits for all others."""
        script = f"touch {tmp_path}/$0; until [ $(ls {tmp_path} | wc -l) = 8 ]; do sleep 0.05; done; echo $0"
        done = await asyncio.gather(
            *(transport.run(Command(("sh", "-c", script, str(number))), timeout_s=30) for number in range(8))
        )
        assert [each.output for each in done] == [f"{number}\n" for number in range(8)]

    async def test_root_is_root(self, transport: Transport) -> None:
        if os.geteuid() != 0:
            pytest.skip("whether this user may become root is not known")
        assert (await transport.run(Command(("id", "-u"), as_root=True))).output == "0\n"

    async def test_fetch_writes_a_private_file_or_none(self, transport: Transport, tmp_path: Path) -> None:
        target = tmp_path / "fetched"
        await transport.fetch(Command(("printf", r"\001\377")), target)
        assert target.read_bytes() == b"\001\377"
        assert target.stat().st_mode & 0o777 == 0o600
        with pytest.raises(DeployError, match=r"ended with 3\nwhy"):
            await transport.fetch(Command(("sh", "-c", "echo part; echo why >&2; exit 3")), target)
        assert target.read_bytes() == b"\001\377"
        assert names(tmp_path) == ["fetched"]

    async def test_send_file(self, transport: Transport, tmp_path: Path) -> None:
        source, target = tmp_path / "source ü", tmp_path / "target ü"
        source.write_bytes(os.urandom(3_000_000))
        target.write_text("old")
        told: list[tuple[int, int]] = []
        await transport.send_file(source, target, on_progress=lambda sent, total: told.append((sent, total)))
        assert target.read_bytes() == source.read_bytes()
        assert target.stat().st_mode & 0o777 == 0o600
        assert told[-1] == (3_000_000, 3_000_000)
        assert told == sorted(told)
        assert names(tmp_path) == ["source ü", "target ü"]

    async def test_an_empty_file_is_sent(self, transport: Transport, tmp_path: Path) -> None:
        (tmp_path / "source").touch()
        await transport.send_file(tmp_path / "source", tmp_path / "target")
        assert (tmp_path / "target").read_bytes() == b""

    async def test_listing_tells_modes_and_digests(self, transport: Transport, tmp_path: Path) -> None:
        assert await transport.listing(tmp_path / "absent") is None
        (tmp_path / "deep er").mkdir()
        assert await transport.listing(tmp_path) == {}
        (tmp_path / "deep er/ü\nline").write_text("content")
        (tmp_path / "deep er/ü\nline").chmod(0o640)
        (tmp_path / "link").symlink_to("deep er")
        assert await transport.listing(tmp_path) == {
            "deep er/ü\nline": FileState(0o640, hashlib.sha256(b"content").hexdigest())
        }

    async def test_make_folder_is_private_and_nobody_elses(self, transport: Transport, tmp_path: Path) -> None:
        folder = tmp_path / "a" / "b"
        await transport.make_folder(folder)
        folder.chmod(0o755)
        await transport.make_folder(folder)
        assert folder.stat().st_mode & 0o777 == 0o700
        (tmp_path / "link").symlink_to(folder)
        (tmp_path / "file").touch()
        for name in ("link", "file"):
            with pytest.raises(DeployError, match="is not a folder of this user"):
                await transport.make_folder(tmp_path / name)

    async def test_rename_replaces_a_file_and_never_enters_a_folder(self, transport: Transport, tmp_path: Path) -> None:
        (tmp_path / "new").write_text("new")
        (tmp_path / "old").write_text("old")
        await transport.rename(tmp_path / "new", tmp_path / "old")
        assert (tmp_path / "old").read_text() == "new"
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder/file").touch()
        (tmp_path / "other").mkdir()
        with pytest.raises(DeployError, match=transport.place):
            await transport.rename(tmp_path / "other", tmp_path / "folder")
        assert names(tmp_path / "folder") == ["file"]

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

    async def test_large_content_is_written_and_read(self, transport: Transport, tmp_path: Path) -> None:
        content = os.urandom(5_000_000)
        await transport.write(tmp_path / "ü $x", content)
        assert await transport.read(tmp_path / "ü $x") == content

    async def test_upload_refuses_links(self, transport: Transport, tmp_path: Path) -> None:
        (tmp_path / "source").mkdir()
        (tmp_path / "source/link").symlink_to("/etc/passwd")
        with pytest.raises(DeployError, match="files and folders only"):
            await transport.upload(tmp_path / "source", tmp_path / "target")
        assert not (tmp_path / "target").exists()

    async def test_upload_takes_long_names_of_any_letters(self, transport: Transport, tmp_path: Path) -> None:
        name = f"{'ü' * 60} {'n' * 120}"
        (tmp_path / "source").mkdir()
        (tmp_path / "source" / name).write_bytes(b"x" * 70_000)
        (tmp_path / "source" / "empty").mkdir()
        await transport.upload(tmp_path / "source", tmp_path / "target")
        assert (tmp_path / "target" / name).read_bytes() == b"x" * 70_000
        assert names(tmp_path / "target") == ["empty", name]

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
    async def transport(self) -> Transport:
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


class TestSshTransport(TransportConformance):
    @pytest.fixture
    async def transport(self, sshd: Sshd) -> AsyncIterator[Transport]:
        opened = sshd.transport()
        yield opened
        await opened.close()


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
