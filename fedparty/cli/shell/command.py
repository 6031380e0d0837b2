"""``fedparty console``.

Owns its options, the prompt, the few words that the console answers itself, and the exit code. Every other word runs
the command that ``fedparty`` runs, so both say the same.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fedparty.cli import main
from fedparty.cli.session import open_session, output_option, session_options
from fedparty.cli.shell import lines
from fedparty.cli.shell.words import WORDS, translate
from fedparty.errors import FedpartyError, NotAvailableError

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.history import History

    from fedparty.client import Session

_HELP, _LEAVE = ("help", "?"), ("bye", "exit", "quit")
OWN = {
    "help": "The words there are; with one of them, what it does and takes.",
    "?": "The same as help.",
    "info": "Which party the console talks to.",
    "lpwd": "The folder that the console runs in.",
    "bye": "Leave; exit, quit and Ctrl-D do too.",
    "exit": "Leave.",
    "quit": "Leave.",
}
"""What the console answers itself."""

_INTERRUPTED = "the party goes on with what it was told"


@click.command()
@session_options
@output_option
@click.option("-c", "commands", metavar="COMMANDS", help="Run these, with ; between them, and end.")
def console(profile: str | None, home: Path | None, output: str, commands: str | None) -> int:
    """Work with a party in a dialogue: completion by Tab, history by the arrows, ? for help.

    It knows the commands of fedparty, and by name those of NVIDIA FLARE's console. --profile, --home and --output hold
    for every command that takes them. With -c, or from a pipe, the first command that fails ends it with its exit
    code.

    \b
    fedparty console -c "list_jobs; check_status"
    echo list_jobs | fedparty console --output json
    """
    shell = Shell(profile, home, output)
    if commands is not None:
        return shell.run_all(commands.splitlines())
    if not sys.stdin.isatty():
        return shell.run_all(sys.stdin)
    return shell.talk()


class Leave(Exception):
    """The console is to end."""


@dataclass(frozen=True)
class Shell:
    """One console; the parameters are what holds for every command."""

    profile: str | None
    home: Path | None
    output: str

    def open_session(self) -> Session:
        """Open a session with the party; see `fedparty.cli.session.open_session`."""
        return open_session(self.profile, self.home)

    def run_all(self, given: Iterable[str]) -> int:
        """Run lines until a command fails; return its exit code, else 0."""
        try:
            for line in given:
                if code := self.run(line, is_stopping=True):
                    return code
        except Leave:
            pass
        return 0

    def talk(self) -> int:
        """Talk with a person until they leave."""
        with self.open_session() as session:
            party = session.party()
        click.echo(f"party {party.id} of {party.federation}, release {party.version}. ? for help, Ctrl-D to leave.")
        dialogue = self._dialogue(f"{party.id}> ")
        while True:
            try:
                self.run(dialogue.prompt())
            except KeyboardInterrupt:  # a line that is given up
                continue
            except (EOFError, Leave):
                return 0

    def run(self, line: str, *, is_stopping: bool = False) -> int:
        """Run the commands of a line, until one fails if `is_stopping`; return the last one's exit code.

        Raises
        ------
        Leave
            It says so.
        """
        code = 0
        try:
            for words in lines.split(line):
                code = self._run(words)
                if code and is_stopping:
                    break
        except FedpartyError as exc:
            return main.tell(exc)
        return code

    def _run(self, words: Sequence[str]) -> int:
        first, *rest = words
        if first in _LEAVE:
            raise Leave
        if first in _HELP:
            return self._help(rest)
        if first == "lpwd":
            click.echo(str(Path.cwd()))
            return 0
        if first == "info":
            return self._info()
        if first == "console":
            raise NotAvailableError("console: this is one", hint="exit leaves it.")
        return main.call(main.cli, "fedparty", self._completed(translate(words)), when_interrupted=_INTERRUPTED)

    def _completed(self, words: Sequence[str]) -> list[str]:
        """Return a command with the console's own options, where it takes them and does not have them yet."""
        command, count = lines.find(main.cli, words)
        added: list[str] = []
        is_elsewhere = any(each.partition("=")[0] in ("--profile", "--home") for each in words)
        for name, value in (("--profile", self.profile), ("--home", self.home)):
            if value is not None and not is_elsewhere and lines.option(command, name):
                added += [name, str(value)]
        if self.output == "json" and _takes_json(command) and "--output" not in words:
            added += ["--output", "json"]
        return [*words[:count], *added, *words[count:]]

    def _help(self, words: Sequence[str]) -> int:
        if not words:
            _show_words()
            return 0
        if words[0] in OWN:
            click.echo(f"{words[0]}: {OWN[words[0]]}")
            return 0
        if words[0] in WORDS:
            word = WORDS[words[0]]
            click.echo(f"{words[0]}: {word.text} Here: {' '.join(word.runs)}\n")
            words = [*word.runs, *words[1:]]
        return main.call(main.cli, "fedparty", [*translate(words), "--help"])

    def _info(self) -> int:
        with self.open_session() as session:
            party = session.party()
            click.echo(f"party {party.id} of {party.federation}, release {party.version}, at {session.address}")
        return 0

    def _dialogue(self, prompt: str) -> PromptSession[str]:
        from prompt_toolkit import PromptSession

        from fedparty.cli.shell.completion import ConsoleCompleter, ask

        return PromptSession(
            prompt,
            history=_history(),
            completer=ConsoleCompleter(main.cli, OWN, lambda: ask(self.open_session)),
            complete_in_thread=True,
            complete_while_typing=False,
        )


def _history() -> History:
    """Return what was typed before; where it cannot be kept, as in a container without a home, it says so."""
    from prompt_toolkit.history import InMemoryHistory

    from fedparty.cli.shell.history import open_history

    try:
        return open_history()
    except OSError as exc:
        click.echo(f"the history is not kept: {exc.filename}: {exc.strerror}", err=True)
        return InMemoryHistory()


def _takes_json(command: click.Command) -> bool:
    option = lines.option(command, "--output")
    return option is not None and isinstance(option.type, click.Choice) and "json" in option.type.choices


def _show_words() -> None:
    sections: tuple[tuple[str, Sequence[tuple[str, str]]], ...] = (
        ("As in FLARE", [(name, f"{word.text} ({' '.join(word.runs)})") for name, word in WORDS.items()]),
        ("The console's own", list(OWN.items())),
        ("As in fedparty", [(name, text) for name, (_, text) in main.COMMANDS.items() if name != "console"]),
    )
    formatter = click.HelpFormatter(width=min(click.get_current_context().terminal_width or 110, 110))
    for heading, entries in sections:
        with formatter.section(heading):
            formatter.write_dl(entries)
    click.echo(formatter.getvalue().strip())
    click.echo("\nhelp WORD says more; a command's own -h too.")
