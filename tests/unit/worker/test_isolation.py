"""What holds a job's own code, with namespaces and where the kernel gives none (as in Docker's default profile)."""

from __future__ import annotations

import json
import logging
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fedparty.errors import JobError
from fedparty.types import JobId, Member, PartyId, TaskRun
from fedparty.worker import isolation
from fedparty.worker.isolation import isolation as measures
from fedparty.worker.isolation import landlock, namespaces
from fedparty.worker.spec import TaskSpec

LOG = logging.getLogger("test")
HELD = pytest.mark.skipif(bool(isolation.unheld()), reason=f"nothing can be held here: {isolation.unheld()}")


@pytest.fixture
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="fp-held-", dir="/tmp") as folder:
        home = Path(folder)
        (home / "secret").write_text("secret")
        (home / "table.csv").write_text("1")
        for name in ("run", "jobs/j/t/1/guest-1", "jobs/other", "code"):
            (home / name).mkdir(parents=True)
        (home / "code" / "own.py").write_text("class A: ...")
        yield home


def _spec(home: Path, **more: Any) -> TaskSpec:
    run = TaskRun(JobId("10000-01JD3MZZZZZZZZZZZZZZZZZZZZ"), "t", 1)
    return TaskSpec(
        run, Member("guest", PartyId("10000")), (), "custom:own.A", "{}", "token", 0.0, 1.0,
        home / "jobs/j/t/1/guest-1", f"unix:{home}/run/egress", f"unix:{home}/run/mailbox",
        code=str(home / "code"), tables=json.dumps([{"path": "table.csv"}]), tables_folder=str(home), **more,
    )  # fmt: skip


def _in_child(work: Callable[[], Any]) -> Any:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writer, json.dumps(work()).encode())
        except BaseException as exc:  # noqa: BLE001 -- told to the parent
            os.write(writer, json.dumps(f"{type(exc).__name__}: {exc}").encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(pid, 0)
    with os.fdopen(reader, "rb") as file:
        return json.loads(file.read())


def _may(attempt: Callable[[], Any]) -> bool:
    try:
        attempt()
    except OSError:
        return False
    return True


def _connect(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as own:
        own.connect(str(path))


@HELD
@pytest.mark.parametrize("has_namespaces", [True, False])
def test_a_task_is_left_its_own_alone(has_namespaces: bool, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    if not has_namespaces:
        monkeypatch.setattr(namespaces, "enter", refused)
    listeners = []
    for name in ("egress", "mailbox", "admin"):
        listeners.append(socket.socket(socket.AF_UNIX))
        listeners[-1].bind(str(home / "run" / name))
        listeners[-1].listen()
    own = home / "jobs/j/t/1/guest-1"

    def work() -> dict[str, bool]:
        os.chdir(own)
        isolation.hold(_spec(home), LOG)
        tries: dict[str, Callable[[], Any]] = {
            "own folder": lambda: (own / "x").write_text("x"),
            "relative": lambda: Path("y").write_text("y"),
            "own code": (home / "code" / "own.py").read_bytes,
            "own table": (home / "table.csv").read_bytes,
            "egress": lambda: _connect(home / "run" / "egress"),
            "mailbox": lambda: _connect(home / "run" / "mailbox"),
            "another socket": lambda: _connect(home / "run" / "admin"),
            "secret": (home / "secret").read_bytes,
            "other jobs": lambda: list((home / "jobs").iterdir()),
            "write code": lambda: (home / "code" / "own.py").write_text(""),
            "write table": lambda: (home / "table.csv").write_text(""),
            "touch table": lambda: os.utime(home / "table.csv"),
            "mode of table": lambda: (home / "table.csv").chmod(0o777),
            "link": lambda: (own / "link").symlink_to(home / "secret"),
            "pipe": lambda: os.mkfifo(own / "pipe"),
            "network": lambda: socket.socket(socket.AF_INET),
            "parent": Path(f"/proc/{os.getppid()}/environ").read_bytes,
        }
        return {name: _may(attempt) for name, attempt in tries.items()}

    found = _in_child(work)
    for listener in listeners:
        listener.close()
    reached = {"own folder", "relative", "own code", "own table", "egress", "mailbox"}
    open_still = set() if has_namespaces else {"another socket"}
    assert {name for name, could in found.items() if could} == reached | open_still
    assert sorted(path.name for path in own.iterdir()) == ["x", "y"]


def test_where_the_kernel_offers_nothing_the_code_is_refused_unless_it_is_trusted(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landlock, "abi", lambda: 0)
    measures.unheld.cache_clear()
    try:
        with pytest.raises(JobError, match="cannot be held at party 10000: its kernel offers no Landlock") as refused:
            isolation.hold(_spec(home), LOG)
        assert "isolation: none" in refused.value.hint
        isolation.hold(_spec(home, isolation="none"), LOG)
        assert (home / "secret").read_text() == "secret"
    finally:
        measures.unheld.cache_clear()


@HELD
def test_a_home_that_lies_where_python_does_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.prefix", str(home))
    said = _in_child(lambda: isolation.hold(_spec(home), LOG))
    assert "the party's home lies in" in said
