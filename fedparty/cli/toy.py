"""``run_toy_example.py``: the secure sum, in this process or as a job between parties.

Owns its arguments, finding the guest's home, and what is printed: the lines that KubeFATE users look for. Does not own
the sum (`fedparty.components.secure_sum`) nor the job (`fedparty.flow`). Each mode imports only what it needs: the
whole script takes little longer than the job.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fedparty.cli.main import call
from fedparty.errors import ConfigurationError, FedpartyError, JobError, VerificationError
from fedparty.types import PartyId, parse_party_id

if TYPE_CHECKING:
    from fedparty.client import JobStatus, Session

HOME_VARIABLE = "FEDPARTY_HOME"
_PATIENCE_S = 30.0
_TASK = "sum"


@dataclass(frozen=True)
class Toy:
    """What is asked for.

    Parameters
    ----------
    guest, hosts
        Who takes part; the guest may be a host too.
    data_num, partition
        See `fedparty.components.secure_sum.SecureSumParameters`.
    timeout_s
        Limit for the whole job.
    cores
        What each member's task asks its party for.
    """

    guest: PartyId
    hosts: tuple[PartyId, ...]
    data_num: int
    partition: int
    timeout_s: float
    cores: float

    @property
    def parameters(self) -> dict[str, int]:
        """The component's parameters."""
        return {"data_num": self.data_num, "partition": self.partition}

    @property
    def expected(self) -> float:
        """The sum, if all is well: every member has `data_num` values of 1."""
        return float(self.data_num * (1 + len(self.hosts)))

    def job(self) -> dict[str, Any]:
        """Return the job description, as for ``POST /v1/jobs``."""
        return {
            "name": "toy",
            "roles": {"guest": [self.guest], "host": list(self.hosts)},
            "tasks": {_TASK: {"component": "secure_sum", "parameters": self.parameters, "cores": self.cores}},
            "timeout_s": self.timeout_s,
        }


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("words", nargs=-1, required=True, metavar="GUEST HOST [HOST...] WORK_MODE")
@click.option(
    "--data-num", type=click.IntRange(1), default=1000, show_default=True, help="How many values each party has."
)
@click.option("--partition", type=click.IntRange(1), default=10, show_default=True, help="Pieces they travel in.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0, min_open=True),
    default=60.0,
    show_default=True,
    help="Limit for the job, seconds.",
)
@click.option(
    "--cores", type=click.FloatRange(0, min_open=True), default=0.1, show_default=True, help="What each task asks for."
)
@click.option(
    "--outputs",
    type=click.Path(path_type=Path),
    help="Where generate_config.py wrote; the guest's home is sought in its folder deployed/.",
)
def toy(
    words: Sequence[str], data_num: int, partition: int, timeout_s: float, cores: float, outputs: Path | None
) -> None:
    """Compute a secure sum, to see that the parties can work together.

    Each party has a list of ones, as long as --data-num says. No party sees more of another's list than random numbers;
    the guest learns the sum of all. GUEST and HOST are party ids; both may be the same party.

    WORK_MODE 1 runs it as a job of the guest's party, which must run on this machine. WORK_MODE 0 runs it in this
    process alone, without any service.

    \b
    run_toy_example.py 10000 9999 1          two parties
    run_toy_example.py 10000 10000 1         one party with itself
    run_toy_example.py 10000 9999 9998 1     three parties

    The guest's home is the folder in FEDPARTY_HOME, else the working directory if it is one, else
    outputs/deployed/confs-GUEST.
    """
    guest, hosts, work_mode = _read_words(words)
    asked = Toy(guest, hosts, data_num, partition, timeout_s, cores)
    if work_mode == "0":
        _run_here(asked)
    else:
        _run_job(asked, find_home(guest, outputs))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0 only when the right sum was seen."""
    return call(toy, "run_toy_example.py", arguments)


def find_home(guest: PartyId, outputs: Path | None) -> Path:
    """Return the home of the guest's party on this machine.

    Raises
    ------
    ConfigurationError
        There is none, or it is another party's.
    """
    home = _home_given(outputs) or (outputs or _outputs()) / "deployed" / f"confs-{guest}"
    try:
        party = json.loads((home / "bundle" / "bundle.json").read_bytes())["party"]
    except (OSError, ValueError, KeyError) as exc:
        raise ConfigurationError(
            f"party {guest} is not deployed here: {home} is not a party's home",
            hint=f"Deploy it: python deploy.py {guest}; or tell where it is: --outputs, {HOME_VARIABLE}.",
        ) from exc
    if party != guest:
        raise ConfigurationError(
            f"{home} is the home of party {party}, and the job starts at its guest, {guest}",
            hint=f"Run it at party {guest}, or make {party} the guest.",
        )
    return home


def _home_given(outputs: Path | None) -> Path | None:
    if outputs is not None:
        return None
    if given := os.environ.get(HOME_VARIABLE):
        return Path(given)
    here = Path.cwd()
    return here if (here / "bundle" / "bundle.json").exists() else None


def _outputs() -> Path:
    """Return the folder ``outputs`` of the working directory, else that of the repository the script lies in."""
    here = Path("outputs")
    beside_script = Path(sys.argv[0]).resolve().parents[1] / here
    return beside_script if beside_script.exists() and not here.exists() else here


def _read_words(words: Sequence[str]) -> tuple[PartyId, tuple[PartyId, ...], str]:
    *parties, work_mode = words
    if work_mode not in ("0", "1"):
        raise click.UsageError(f"WORK_MODE, the last word, is 0 (this process) or 1 (a job), not {work_mode!r}.")
    if len(parties) < 2:
        raise click.UsageError("Give a guest and at least one host before WORK_MODE.")
    try:
        guest, *hosts = map(parse_party_id, parties)
    except ValueError as exc:
        raise click.UsageError(f"{exc}.") from exc
    if len(set(hosts)) < len(hosts):
        raise click.UsageError("A host is given twice.")
    return guest, tuple(hosts), work_mode


def _run_here(asked: Toy) -> None:
    from fedparty.components.secure_sum import SecureSum
    from fedparty.context import run_in_process
    from fedparty.types import Member

    guest = Member("guest", asked.guest)
    members = [guest, *(Member("host", host) for host in asked.hosts)]
    results = run_in_process(
        SecureSum,
        "secure_sum",
        members,
        asked.parameters,
        timeout_s=asked.timeout_s,
        log_handler=lambda member: _Printer() if member == guest else logging.NullHandler(),
    )
    _check(results[guest], asked)


def _run_job(asked: Toy, home: Path) -> None:
    from fedparty.client import Session

    with Session.at_home(home) as session:
        job = session.submit(asked.job()).id
        printed = threading.Event()
        following = threading.Thread(target=_follow, args=(session, job, printed.set), daemon=True)
        with _stopping_if_interrupted(session, job):
            following.start()
            ended = session.wait(job, asked.timeout_s + _PATIENCE_S)
        following.join(_PATIENCE_S if ended.state == "success" else 1.0)
        _require_success(ended)
        _check(ended.result(_TASK, "guest"), asked)
        if not printed.is_set():
            click.echo(f"success to calculate secure_sum, it is {asked.expected}")


@contextmanager
def _stopping_if_interrupted(session: Session, job: str) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        try:
            session.stop(job)
            click.echo(f"job {job} was stopped", err=True)
        except FedpartyError as exc:
            click.echo(f"job {job} was not stopped: {exc.message}", err=True)
        raise


def _require_success(ended: JobStatus) -> None:
    """Raise what became of a job that failed: its own reason, and those of its members that say more."""
    if ended.state == "success":
        return
    newest = max((task.attempt for task in ended.tasks), default=0)
    told = [task for task in ended.tasks if task.attempt == newest and task.error and task.error not in ended.error]
    lines = [ended.verdict, *(f"  {task.error}" for task in told)]
    raise JobError("\n".join(lines), hint=next((task.hint for task in told if task.hint), ended.hint))


def _follow(session: Session, job: str, when_successful: Callable[[], None]) -> None:
    """Print the guest's log as it grows. Whether the job succeeds does not depend on it."""
    with suppress(FedpartyError):
        for line in session.logs(job, "guest", follow=True):
            click.echo(_printed(line))
            if str(line.get("message", "")).startswith("success to calculate secure_sum"):
                when_successful()


def _check(result: Any, asked: Toy) -> None:
    if result != {"secure_sum": asked.expected}:
        raise VerificationError(
            f"the job ended with {result}, and should have with the sum {asked.expected}", hint="Please report it."
        )


def _printed(line: Mapping[str, Any]) -> str:
    """Return a log line as KubeFATE shows it."""
    with suppress(KeyError, ValueError):
        time = datetime.fromisoformat(line["time"]).astimezone()
        file, _, number = str(line["source"]).partition(":")
        stamp = f"{time:%Y-%m-%d %H:%M:%S},{time.microsecond // 1000:03d}"
        return f"{stamp} - {file}[line:{number}] - {line['level']}: {line['message']}"
    return str(line.get("message", line))


class _Printer(logging.Handler):
    """Prints records as `_printed` prints log lines."""

    def emit(self, record: logging.LogRecord) -> None:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "source": f"{record.filename}:{record.lineno}",
            "level": record.levelname,
            "message": record.getMessage(),
        }
        click.echo(_printed(line))
