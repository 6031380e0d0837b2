"""``fedparty job …``: submit, watch, stop, keep and delete jobs.

Owns the commands, their options and exit codes. Does not own how things look (`fedparty.cli.job_texts`), a job's folder
(`fedparty.jobs.folder`), nor the calls (`fedparty.client`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fedparty.cli import job_texts as texts
from fedparty.cli import session
from fedparty.cli.main import INTERRUPTED
from fedparty.errors import FedpartyError, JobError

if TYPE_CHECKING:
    from fedparty.client import JobStatus, Session

EXIT_CODES = {"success": 0, "failed": 3, "canceled": 4, "timeout": 5}
"""By the state that a job ended in, of ``submit --wait``, ``rerun --wait`` and ``show --exit-code``."""

_CODES = """\b
Exit codes: 0 success, 1 error, 2 wrong usage, 130 interrupted;
with {option}: 3 the job failed, 4 was canceled, 5 ran out of time."""
_STATES = ("waiting", "running", "success", "failed", "canceled", "timeout")
_PAGE = 1000

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


@click.group(epilog="ID is a job's id, how it begins or ends, or - for the newest job. More: docs/jobs.md")
def job() -> None:
    """Submit, watch, stop and keep jobs of a party: one on this machine, or one that you logged in to."""


def _wait_option(function: Decorated) -> Decorated:
    return click.option("--wait", "is_waited", is_flag=True, help="Show its progress until it has ended.")(function)


def _stream_options(function: Decorated) -> Decorated:
    """Add the options that say what of a job's logs or figures is read, and how long."""
    follow = click.option("-f", "--follow", "is_followed", is_flag=True, help="Go on until the job has ended.")
    role = click.option("--role", help="Only this role's.")
    party = click.option(
        "--party",
        "whose",
        type=session.Party(),
        help="Another party's, where its policy shows them.",
    )
    return follow(role(party(function)))


def _codes(option: str) -> str:
    return _CODES.format(option=option)


@job.command(epilog=_codes("--wait"))
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("-p", "parameters", multiple=True, metavar="KEY=VALUE", help="A parameter over the file's; TASK.KEY too.")
@_wait_option
@session.session_options
@session.output_option
def submit(
    folder: Path, parameters: Sequence[str], is_waited: bool, profile: str | None, home: Path | None, output: str
) -> int:
    """Submit the job that FOLDER/job.yaml describes.

    The file is checked before anything is sent, and so is FOLDER/custom, the job's own code. Nothing else is read.
    """
    from fedparty.jobs import folder as folders

    described, package = folders.load(folder, parameters)
    description = described.model_dump(mode="json", exclude_defaults=True)
    with session.open_session(profile, home) as party:
        if package is not None:
            click.echo(f"its own code: {len(package.files)} files, SHA-256 {package.sha256}", err=True)
        return _submit(party, lambda: party.submit(description, package), is_waited, output)


@job.command("list")
@click.option("--status", "states", type=click.Choice(_STATES), multiple=True, help="Only these; may be repeated.")
@click.option("--limit", type=click.IntRange(1, _PAGE), default=20, show_default=True, help="How many.")
@click.option("--before", metavar="ID", help="Only older ones than this: the next page.")
@session.session_options
@session.output_option
def list_(
    states: Sequence[str], limit: int, before: str | None, profile: str | None, home: Path | None, output: str
) -> None:
    """List jobs that this party submitted or takes part in, newest first."""
    with session.open_session(profile, home) as party:
        found = party.jobs(limit, states=states, before=party.find(before) if before else None)
    session.show(output, {"jobs": [texts.summary(each) for each in found]}, texts.jobs(found))


@job.command(epilog=_codes("--exit-code"))
@click.argument("words", metavar="ID")
@click.option("--exit-code", "is_exit_code", is_flag=True, help="End with a code that says how the job ended.")
@session.session_options
@session.output_option
def show(words: str, is_exit_code: bool, profile: str | None, home: Path | None, output: str) -> int:
    """Show a job with its tasks, as far as this party knows them."""
    with session.open_session(profile, home) as party:
        found = party.job(party.find(words))
    session.show(output, texts.content(found), texts.job(found))
    return EXIT_CODES.get(found.state, 0) if is_exit_code else 0


@job.command()
@click.argument("words", metavar="ID")
@_stream_options
@session.session_options
@session.output_option
def logs(
    words: str,
    is_followed: bool,
    role: str | None,
    whose: str | None,
    profile: str | None,
    home: Path | None,
    output: str,
) -> None:
    """Show what a job's roles log: this party's own, or another's."""
    with session.open_session(profile, home) as party:
        for line in party.logs(party.find(words), role, party=whose, follow=is_followed):
            click.echo(texts.json_line(line) if output == "json" else texts.log_line(line))


@job.command()
@click.argument("words", metavar="ID")
@_stream_options
@click.option(
    "--tensorboard",
    "events",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write TensorBoard event files into this folder instead.",
)
@session.session_options
@session.output_option
def metrics(
    words: str,
    is_followed: bool,
    role: str | None,
    whose: str | None,
    events: Path | None,
    profile: str | None,
    home: Path | None,
    output: str,
) -> None:
    """Show the figures that a job's roles record: this party's own, or another's."""
    from fedparty.cli import job_metrics

    with session.open_session(profile, home) as party:
        figures = party.metrics(party.find(words), role, party=whose, follow=is_followed)
        if events is not None:
            click.echo(f"{events}: {job_metrics.write_events(figures, events)} figures")
            return
        figure = None
        for figure in figures:
            click.echo(texts.json_line(figure) if output == "json" else job_metrics.line(figure))
    if figure is None:
        click.echo("no figure was recorded", err=True)


@job.command()
@click.argument("words", metavar="ID")
@session.session_options
@session.output_option
def stop(words: str, profile: str | None, home: Path | None, output: str) -> None:
    """Stop a job: everywhere where this party submitted it, else this party's part, which ends it for all."""
    with session.open_session(profile, home) as party:
        stopped = party.stop(party.find(words))
    session.show(output, texts.content(stopped), [texts.ended(stopped)])


@job.command(epilog=_codes("--wait"))
@click.argument("words", metavar="ID")
@click.option("--from", "task", metavar="TASK", help="Run this task and those after it; take over what others left.")
@_wait_option
@session.session_options
@session.output_option
def rerun(words: str, task: str | None, is_waited: bool, profile: str | None, home: Path | None, output: str) -> int:
    """Submit a job again, as a new one, from its first task or another one."""
    with session.open_session(profile, home) as party:
        found = party.find(words)
        return _submit(party, lambda: party.rerun(found, task), is_waited, output)


@job.command()
@click.argument("words", metavar="ID")
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@session.session_options
def clone(words: str, folder: Path | None, profile: str | None, home: Path | None) -> None:
    """Write the folder of a new job that does the same as an earlier one; without FOLDER: clone-ID."""
    from fedparty.jobs import folder as folders

    with session.open_session(profile, home) as party:
        found = party.find(words)
        folder = folder or Path(f"clone-{found}")
        described = party.description(found)
        package = party.code(found) if folders.CODE in described else None
        folders.write(folder, described, f"As job {found}.", package)
    click.echo(f"{folder / folders.FILE} was written; run it: fedparty job submit {folder}")


@job.command()
@click.argument("name")
@click.option("--template", default="secure-sum", show_default=True, help="What the job does.")
@click.option(
    "--parties", default="10000,9999", show_default=True, metavar="PARTY,PARTY…", help="The guest, then the hosts."
)
def new(name: str, template: str, parties: str) -> None:
    """Write the folder NAME with a job that runs as it is; change it as you like."""
    from fedparty.jobs import folder as folders

    if template not in folders.templates():
        raise click.UsageError(f"there is no template {template}; there are: {', '.join(folders.templates())}.")
    guest, *hosts = _parties(parties)
    path = Path(name)
    folders.write_text(path, folders.from_template(template, path.name, guest, hosts or [guest]))
    click.echo(f"{path / folders.FILE} was written; run it: fedparty job submit {name} --wait")


@job.command()
@click.argument("words", metavar="ID")
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@session.session_options
def download(words: str, folder: Path | None, profile: str | None, home: Path | None) -> None:
    """Write one folder with what this party knows of a job; without FOLDER: job-ID.

    What it was to do, results, logs, metrics, files; and of other parties, what their policies show. Where it breaks
    off, the same command goes on from there.
    """
    from fedparty.cli.job_download import write

    with session.open_session(profile, home) as party:
        found = party.find(words)
        folder = folder or Path(f"job-{found}")
        files = write(party, found, folder, lambda text: click.echo(session.printable(text), err=True))
    click.echo(f"{folder}: {', '.join(files)}")


@job.command()
@click.argument("words", metavar="ID...", nargs=-1, required=True)
@session.session_options
def delete(words: Sequence[str], profile: str | None, home: Path | None) -> int:
    """Delete jobs that have ended, at this party: what is recorded of them, their logs and their files."""
    with session.open_session(profile, home) as party:
        found = [party.find(each) for each in words]
        return _delete(party, dict.fromkeys(found))


@job.command()
@click.option("--older-than", "age_s", default="30d", show_default=True, type=texts.Age(), help="E.g. 12h, 30d, 8w.")
@click.option(
    "--keep", type=click.IntRange(0), default=0, show_default=True, help="How many of the newest stay anyway."
)
@click.option("--dry-run", "is_rehearsed", is_flag=True, help="Only say which would go.")
@session.session_options
def clean(age_s: float, keep: int, is_rehearsed: bool, profile: str | None, home: Path | None) -> int:
    """Delete the jobs that ended long ago, at this party."""
    with session.open_session(profile, home) as party:
        old = [each for each in _ended_jobs(party)[keep:] if texts.age_s(each) >= age_s]
        if is_rehearsed:
            session.show("text", None, texts.jobs(old))
        code = 0 if is_rehearsed else _delete(party, (each.id for each in old))
    click.echo(f"{len(old)} old jobs found")
    return code


def _submit(party: Session, send: Callable[[], JobStatus], is_waited: bool, output: str) -> int:
    """Submit a job, and print that, or what became of it; return the exit code."""
    job: JobStatus | None = None
    try:
        job = send()
        if not is_waited:
            session.show(output, texts.content(job), [f"job {job.id} was submitted"])
            return 0
        click.echo(f"job {job.id} was submitted", err=True)
        with texts.progress() if output == "text" else nullcontext(None) as progress:
            ended = party.wait(job.id, on_change=progress)
    except KeyboardInterrupt:
        goes_on = f"the job goes on; stop it: fedparty job stop {job.id}" if job else None
        click.echo(f"\n{goes_on or 'whether the job was submitted, fedparty job list tells'}", err=True)
        return INTERRUPTED
    session.show(output, texts.content(ended), texts.job(ended))
    return EXIT_CODES[ended.state]


def _ended_jobs(party: Session) -> list[JobStatus]:
    """Return all jobs that have ended, newest first."""
    found: list[JobStatus] = []
    while True:
        page = party.jobs(_PAGE, states=tuple(EXIT_CODES), before=found[-1].id if found else None)
        found += page
        if len(page) < _PAGE:
            return found


def _delete(party: Session, jobs: Any) -> int:
    """Delete each; go on where one cannot be deleted; return the exit code."""
    code = 0
    for each in jobs:
        try:
            party.delete(each)
            click.echo(f"job {each} was deleted")
        except FedpartyError as exc:
            click.secho(exc.message, err=True, fg="red")
            click.echo(exc.hint, err=True)
            code = exc.exit_code
    return code


def _parties(text: str) -> list[str]:
    from fedparty.types import parse_party_id

    try:
        return [parse_party_id(each.strip()) for each in text.split(",")]
    except ValueError as exc:
        raise JobError(f"--parties: {exc}", hint="Write e.g. --parties 10000,9999") from exc
