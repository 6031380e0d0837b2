"""What a deploy prints: progress while it runs, a table at its end.

Owns the words and the look: alive on a terminal, plain lines elsewhere. Decides nothing.
"""

from __future__ import annotations

import getpass
import json
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter

import click
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from fedparty.deploy.health import HEALTHY, NO_ANSWER, WAITING
from fedparty.deploy.report import NOT_DEPLOYED, STOPPED, PartyResult, Progress, Report, ServiceState
from fedparty.deploy.transport.prompt import Prompt
from fedparty.errors import FedpartyError

_COLOURS = {HEALTHY: "green", WAITING: "yellow", STOPPED: "dim", NOT_DEPLOYED: "dim"}


class PlainProgress:
    """`Progress` as lines, for files, pipes and CI."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._started = perf_counter()

    def step(self, party: str, text: str) -> None:
        """See `Progress.step`."""
        self._line(f"{party}: {text}")

    def service(self, party: str, service: str, state: str, detail: str) -> None:
        """See `Progress.service`."""
        if detail != NO_ANSWER:  # which is how every service begins
            self._line(f"{party}: {service} {state}" + (f" ({detail})" if detail else ""))

    def _line(self, text: str) -> None:
        seconds = perf_counter() - self._started
        self._console.print(f"{seconds:6.2f}s  {text}", markup=False, highlight=False, soft_wrap=True)


class LiveProgress:
    """`Progress` as a table that changes in place, for terminals."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._steps: dict[str, str] = {}
        self._states: dict[str, dict[str, str]] = {}

    def step(self, party: str, text: str) -> None:
        """See `Progress.step`."""
        self._steps[party] = text
        self._live.update(self._table())

    def service(self, party: str, service: str, state: str, detail: str) -> None:
        """See `Progress.service`."""
        self._states.setdefault(party, {})[service] = state
        self._live.update(self._table())

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for party in {**self._steps, **self._states}:
            services = " ".join(_coloured(state, name) for name, state in self._states.get(party, {}).items())
            table.add_row(f"[bold]{party}[/bold]", escape(self._steps.get(party, "")), services)
        return table


_shown: list[Live] = []
"""The table that changes in place, as long as there is one: a question must not share the terminal with it."""


def prompt() -> Prompt:
    """Return whoever sits at the terminal; the progress pauses while a question is open."""
    return Prompt(is_there=sys.stdin.isatty() and sys.stderr.isatty(), ask=_ask, ask_secret=_ask_secret)


def _ask(question: str) -> str:
    with _paused():
        print(question, end=" ", file=sys.stderr, flush=True)
        return sys.stdin.readline()


def _ask_secret(question: str) -> str:
    with _paused():
        return getpass.getpass(question)


@contextmanager
def _paused() -> Iterator[None]:
    for live in _shown:
        live.stop()
    try:
        yield
    finally:
        for live in _shown:
            live.start()


@contextmanager
def progress() -> Iterator[Progress]:
    """Show progress in the way that suits the standard error stream."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield PlainProgress(console)
        return
    with Live(console=console, transient=True) as live:
        _shown.append(live)
        try:
            yield LiveProgress(live)
        finally:
            _shown.remove(live)


def show(report: Report) -> None:
    """Print what became of every party and service, and where to look further."""
    console = stdout_console()
    if any(result.services for result in report.parties):
        console.print(_table(report))
    for result in report.parties:
        _show_party(console, result)
    if report.error:
        _show_error(console, report.error)
    for note in report.notes:
        console.print(escape(note))


def show_success(report: Report, next_steps: Mapping[str, str]) -> None:
    """Print what was proved, where to look, and the commands to go on with."""
    console = stdout_console()
    names = ", ".join(result.party for result in report.parties)
    if report.sum is not None:
        console.print(f"[green]{names}: healthy and verified, the secure sum is {report.sum}[/green]")
    else:
        console.print(f"[green]{names}: healthy[/green]")
    for result in report.parties:
        console.print(
            escape(
                f"  {result.party}: logs in {result.logs}" + (f", REST {result.rest_url}" if result.rest_url else "")
            )
        )
    for word, command in next_steps.items():
        console.print(escape(f"{word}: {command}"))


def _table(report: Report) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for heading in ("party", "service", "state", "address"):
        table.add_column(heading, overflow="fold")
    for result in report.parties:
        for service in result.services:
            table.add_row(result.party, service.service, _coloured(service.state, _state(service)), service.address)
    return table


def _state(service: ServiceState) -> str:
    is_plain = service.state in (HEALTHY, STOPPED, NOT_DEPLOYED)
    state = f"{service.state}, {service.role}" if service.role and service.state == HEALTHY else service.state
    return state if is_plain or not service.detail else f"{state}: {service.detail}"


def _show_party(console: Console, result: PartyResult) -> None:
    for line in result.plan:
        console.print(escape(f"{result.party}: {line}"))
    for service in result.services:
        if service.log_tail:
            console.print(f"\n[bold]{result.party} {service.service}[/bold], the end of its log:")
            console.print(escape("\n".join(_readable(line) for line in service.log_tail.splitlines())))
    if result.error:
        _show_error(console, result.error)
    if result.recovery:
        console.print(escape(result.recovery))


def _readable(line: str) -> str:
    """Return a service's log line as people read it; other lines as they are."""
    try:
        record = json.loads(line)
        error = record.get("error", "").splitlines()
        return " ".join([record["time"], record["level"], record["message"], *error[-1:]])
    except (ValueError, KeyError, TypeError, AttributeError):
        return line


def stdout_console() -> Console:
    """Return the standard output; only a terminal has a width that lines must fit in."""
    return Console(soft_wrap=True, highlight=False, width=None if sys.stdout.isatty() else 200)


def _show_error(console: Console, error: FedpartyError) -> None:
    console.print(f"[red]{escape(error.message)}[/red]")
    if error.hint:
        console.print(escape(error.hint))
    if error.__cause__ and _is_verbose():
        console.print(escape("".join(traceback.format_exception(error))))


def _is_verbose() -> bool:
    """Return whether the command line has ``-v``: `fedparty.cli.main.call` leaves that with the command."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.find_root().obj)


def _coloured(state: str, text: str) -> str:
    return f"[{_COLOURS.get(state, 'red')}]{escape(text)}[/]"
