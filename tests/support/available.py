"""What a test needs of the machine, and what becomes of the test where that is absent.

Owns the question and its answers. Does not own installing anything: `tests/containers/engine.sh` does.
"""

from __future__ import annotations

import functools
import os
import shutil
import socket
import subprocess
from collections.abc import Callable

import pytest

_FOLDERS = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin", "/usr/local/sbin"))
"""Where programs are sought: servers lie in folders that are in root's PATH alone."""

_REMEDY = "as root on Debian: sh tests/containers/engine.sh"


def require(what: str) -> None:
    """Go on only if the machine has something: else skip the test with the reason, or fail it in CI.

    Parameters
    ----------
    what
        ``docker`` (an engine that answers), ``compose`` (version 2), ``machines`` (an engine that may run further
        engines in its containers), ``capture`` (the right to read packets), or the name of a program.
    """
    reason = why_not(what)
    if reason is None:
        return
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@functools.cache
def why_not(what: str) -> str | None:
    """Return why something cannot be used here; None: it can."""
    if what in _CHECKS:
        return _CHECKS[what]()
    return None if program(what) else f"{what} is not installed; {_REMEDY}"


def program(name: str) -> str | None:
    """Return where a program lies; None: nowhere."""
    return shutil.which(name, path=_FOLDERS)


def _docker() -> str | None:
    return _answer("a Docker engine", "docker", "info", "--format", "{{.ServerVersion}}")


def _compose() -> str | None:
    return _docker() or _answer("Docker Compose v2", "docker", "compose", "version", "--short")


def _machines() -> str | None:
    reason = _compose() or why_not("ssh-keygen")
    if reason is None and os.geteuid() != 0:
        return "machines that are containers with engines of their own take root"
    return reason


def _capture() -> str | None:
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()
    except PermissionError:
        return "capturing packets takes CAP_NET_RAW: run as root"
    return None


def _answer(what: str, *argv: str) -> str | None:
    """Return why a command does not succeed."""
    if program(argv[0]) is None:
        return f"{what} is needed and {argv[0]} is not installed; {_REMEDY}"
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=30)
    except subprocess.TimeoutExpired:
        return f"{what} is needed and does not answer: {' '.join(argv)}; {_REMEDY}"
    if done.returncode == 0:
        return None
    said = (done.stderr.strip() or done.stdout.strip()).splitlines()
    return f"{what} is needed: {' '.join(argv)}: {said[-1] if said else f'exit {done.returncode}'}; {_REMEDY}"


_CHECKS: dict[str, Callable[[], str | None]] = {
    "docker": _docker,
    "compose": _compose,
    "machines": _machines,
    "capture": _capture,
}
