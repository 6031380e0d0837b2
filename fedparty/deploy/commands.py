"""Which command: pure functions that return argv.

Owns the command lines of the process engine. Does not run them; see `fedparty.deploy.transport`.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath

from fedparty.deploy.home import Home
from fedparty.deploy.programs import Programs

GROUP = "party"
"""The supervisor group that all programs of a party belong to."""

RESTART = "restart"
"""The supervisor's word for stopping and starting programs."""

PYTHON = "python3"
"""The interpreter of a party, whatever its engine."""

TOY_EXAMPLE = "run_toy_example.py"
"""On PATH in every party, whatever its engine."""

_KEPT = ("HOME", "LANG", "LC_ALL", "LC_CTYPE", "LOGNAME", "SSL_CERT_FILE", "TMPDIR", "TZ", "USER", "XDG_RUNTIME_DIR")


@dataclass(frozen=True)
class Command:
    """A program with its arguments, working directory and whole environment (None: inherited).

    With `as_root` it runs by ``sudo`` where the user of the machine is not root.
    """

    argv: tuple[str, ...]
    cwd: PurePath | None = None
    environment: Mapping[str, str] | None = None
    as_root: bool = False

    def __str__(self) -> str:
        return shlex.join(self.argv)


def environment(home: Home, programs: Programs, inherited: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of everything that runs in a party: of the operator's only the locale and the like."""
    search = (str(programs.python.parent), str(programs.toy_example), "/usr/local/bin", "/usr/bin", "/bin")
    return {
        **{name: inherited[name] for name in _KEPT if name in inherited},
        "PATH": ":".join(search),
        "FEDPARTY_HOME": str(home.path),
        "FEDPARTY_RUN": str(home.short_run),
        "FEDPARTY_PYTHON": str(programs.python),
        "FEDPARTY_ENVOY": str(programs.envoy),
        # Else setproctitle overwrites the environment by which a party's processes are known.
        "SPT_NOENV": "1",
    }


def start_supervisor() -> tuple[str, ...]:
    """Start every service; returns once the supervisor is in the background and answers."""
    return (PYTHON, "-m", "supervisor.supervisord", "-c", "bundle/supervisord.conf")


def _control(*arguments: str) -> tuple[str, ...]:
    return (PYTHON, "-m", "supervisor.supervisorctl", "-c", "bundle/supervisord.conf", *arguments)


def shut_down() -> tuple[str, ...]:
    """Stop every service and the supervisor; returns at once."""
    return _control("shutdown")


def restart(programs: Iterable[str]) -> tuple[str, ...]:
    """Restart these programs; those that do not run are started."""
    return _control(RESTART, *(_supervised_as(program) for program in programs))


def update_supervisor() -> tuple[str, ...]:
    """Start the programs that are new in the supervisor's configuration, end those that are gone, touch no other."""
    return _control("update")


def _supervised_as(program: str) -> str:
    """Return the supervisor's name of a program: a job server besides the first one is in no group."""
    return program if program.startswith("flow-") else f"{GROUP}:{program}"


def migrate() -> tuple[str, ...]:
    """Bring the party's database to the newest schema."""
    return (PYTHON, "-m", "fedparty", "migrate")


def health(*, timeout_s: float | None = None, service: str | None = None) -> tuple[str, ...]:
    """Tell each service's state, one JSON line a change; with `timeout_s` until all, or one alone, are healthy."""
    wait = () if timeout_s is None else ("--wait", "--timeout", f"{timeout_s:g}")
    only = () if service is None else ("--service", service)
    return (PYTHON, "-m", "fedparty", "health", "--home", ".", *wait, *only, "--output", "json")


def toy(parties: Iterable[str], *, timeout_s: float) -> tuple[str, ...]:
    """Run the secure sum from the first party with the others.

    In one piece: each party still sends to each other one, and over ten parties it is a tenth of the messages.
    """
    return (TOY_EXAMPLE, *parties, "1", "--partition", "1", "--timeout", f"{timeout_s:g}")


def tail(log: Path, lines: int, *, follow: bool) -> tuple[str, ...]:
    """Show the end of a log, and with `follow` what is added, over rotation too."""
    return ("tail", "-n", str(lines), *(("-F",) if follow else ()), str(log))
