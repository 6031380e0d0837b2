"""A job's own code that tries what it must not; the lab's tests pack it as ``custom/spying.py``."""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

_PTRACE_SEIZE = 0x4206


class Spy:
    """Tries everything, and tells what became of it."""

    def guest(self, ctx: Any) -> dict[str, Any]:
        own, home = Path.cwd(), Path(ctx.parameters["home"])
        Path("mine").write_text("x")
        ctx.output("kept.txt").write_text("kept")
        tries: dict[str, Callable[[], Any]] = {
            "api token": (home / "bundle" / "secrets" / "api-token").read_bytes,
            "signing key": lambda: [path.read_bytes() for path in _paths(ctx, "keys")],
            "database": lambda: [path.read_bytes() for path in _paths(ctx, "databases")],
            "policy": (home / "policy" / "policy.yaml").read_bytes,
            "new policy": lambda: (home / "policy" / "policy.yaml").write_text("version: 1"),
            "home": lambda: list(home.iterdir()),
            "other jobs": lambda: list(own.parents[3].iterdir()),
            "other job's log": Path(ctx.parameters["other"]).read_bytes,
            "own folder upwards": lambda: list(own.parent.iterdir()),
            "flow's memory": lambda: os.open(f"/proc/{ctx.parameters['pid']}/mem", os.O_RDONLY),
            "flow's environment": Path(f"/proc/{ctx.parameters['pid']}/environ").read_bytes,
            "parent's environment": Path(f"/proc/{os.getppid()}/environ").read_bytes,
            "signal": lambda: os.kill(ctx.parameters["pid"], 0),
            "ptrace": lambda: _ptrace(ctx.parameters["pid"]),
            "flow's socket": lambda: _connect(home / "run" / "flow-rest.sock"),
            "proxy's admin": lambda: _connect(home / "run" / "proxy-admin.sock"),
            "network": lambda: socket.create_connection(("127.0.0.1", ctx.parameters["port"]), 1),
            "udp": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
            "a shell": lambda: subprocess.run(["cat", home / "bundle/secrets/api-token"], check=True),
            "a link": lambda: Path("log.link").symlink_to(home / "bundle/secrets/api-token"),
            "own code": lambda: Path(__file__).write_text(""),
            "own code's mode": lambda: Path(__file__).chmod(0o777),
            "shadow": Path("/etc/shadow").read_bytes,
        }
        return {name: _outcome(each) for name, each in tries.items()}

    host = guest


class Writer:
    """Writes where it must not, and does not catch what comes of it."""

    def guest(self, ctx: Any) -> None:
        Path(ctx.parameters["canary"]).write_text("x")

    host = guest


class Canary:
    """Does nothing; the test's module leaves a file as soon as it is loaded."""

    def guest(self, ctx: Any) -> None: ...

    host = guest


def _paths(ctx: Any, name: str) -> list[Path]:
    return [Path(path) for path in ctx.parameters[name]]


def _outcome(attempt: Callable[[], Any]) -> str:
    try:
        attempt()
    except (OSError, subprocess.CalledProcessError) as exc:
        return type(exc).__name__
    return "DONE"


def _ptrace(pid: int) -> None:
    if ctypes.CDLL(None, use_errno=True).ptrace(_PTRACE_SEIZE, pid, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), "ptrace")


def _connect(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as own:
        own.connect(os.path.realpath(path.parent) + "/" + path.name)
