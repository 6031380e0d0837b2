"""What can follow what is typed: commands, options, job ids, parties, roles, files.

Owns finding it. What the party says is asked for in the background and kept for a moment; where it does not answer,
there is less to choose from and nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document

from fedparty.cli.shell import lines
from fedparty.cli.shell.words import WORDS, translate
from fedparty.errors import FedpartyError

if TYPE_CHECKING:
    from fedparty.client import Session

_KEPT_S = 3.0
_JOBS = 50
_LOOKED_INTO = 3
_OF_JOB = "ID"
"""How the place of a job's id is called in the help of the commands below `_JOB`."""
_JOB = "job"
_OF_PARTY = frozenset({"party", "parties"})


@dataclass(frozen=True)
class Facts:
    """What a party says that can be typed.

    Attributes
    ----------
    jobs
        Ids, newest first, and each one's name and state.
    """

    jobs: tuple[tuple[str, str], ...] = ()
    parties: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()


def ask(open_session: Callable[[], Session]) -> Facts:
    """Return what a party says; nothing where it does not answer."""
    try:
        with open_session() as session:
            own, jobs = session.party().id, session.jobs(_JOBS)
            tasks = [task for job in jobs[:_LOOKED_INTO] for task in session.job(job.id).tasks]
    except FedpartyError:
        return Facts()
    parties = dict.fromkeys([own, *(task.party for task in tasks), *(job.initiator for job in jobs)])
    return Facts(
        tuple((job.id, f"{job.name}, {job.state}") for job in jobs),
        tuple(parties),
        tuple(dict.fromkeys(task.role for task in tasks)),
    )


class ConsoleCompleter(Completer):
    """Completes a line of the console.

    Parameters
    ----------
    root
        The group of all commands.
    own
        The words that the console itself answers, with what each is for.
    ask
        Returns what the party says.
    """

    def __init__(self, root: click.Group, own: dict[str, str], ask: Callable[[], Facts]) -> None:
        self._root = root
        self._own = own
        self._ask = ask
        self._facts, self._asked = Facts(), -_KEPT_S
        self._paths = PathCompleter(expanduser=True)

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """Yield what can stand where the cursor is."""
        typed = document.text_before_cursor.rpartition(";")[2].lstrip()
        begun = typed.split(" ")[-1]
        before = typed[: len(typed) - len(begun)].split()
        for text, meaning in self._choices(before, begun):
            if text.startswith(begun):
                yield Completion(text, -len(begun), display_meta=meaning)
        if self._takes_path(before, begun):
            yield from self._paths.get_completions(Document(begun), complete_event)

    def _choices(self, before: Sequence[str], begun: str) -> Iterator[tuple[str, str]]:
        if not before:
            yield from self._own.items()
            yield from ((name, word.text) for name, word in WORDS.items())
            yield from self._commands(self._root)
            return
        if before[0] in ("help", "?"):
            yield from ((name, word.text) for name, word in WORDS.items())
            yield from self._commands(self._root)
            return
        command, rest = self._find(before)
        if isinstance(command, click.Group):
            yield from () if rest else self._commands(command)
            return
        yield from self._values(_expected(command, rest), is_of_job=self._is_of_job(before))
        if begun.startswith("-"):
            yield from ((each, option.help or "") for option in _options(command) for each in option.opts)

    def _commands(self, group: click.Group) -> Iterator[tuple[str, str]]:
        context = click.Context(group)
        for name in group.list_commands(context):
            yield name, ""

    def _values(self, parameter: click.Parameter | None, *, is_of_job: bool) -> Iterator[tuple[str, str]]:
        if parameter is None:
            return
        if isinstance(parameter.type, click.Choice):
            yield from ((str(each), "") for each in parameter.type.choices)
        name = parameter.name or ""
        if is_of_job and str(parameter.metavar).startswith(_OF_JOB):
            yield from self._known().jobs
        if name in _OF_PARTY:
            yield from ((each, "") for each in self._known().parties)
        if name == "role":
            yield from ((each, "") for each in self._known().roles)

    def _takes_path(self, before: Sequence[str], begun: str) -> bool:
        if not before or begun.startswith("-"):
            return False
        command, rest = self._find(before)
        expected = None if isinstance(command, click.Group) else _expected(command, rest)
        return expected is not None and isinstance(expected.type, click.Path)

    @staticmethod
    def _is_of_job(before: Sequence[str]) -> bool:
        first = before[0]
        return first == _JOB or (first in WORDS and WORDS[first].runs[0] == _JOB)

    def _find(self, before: Sequence[str]) -> tuple[click.Command, Sequence[str]]:
        try:
            words = translate(before)
            command, count = lines.find(self._root, words)
        except FedpartyError:  # there is no such command: nothing can follow it
            return click.Command(before[0]), ()
        return command, words[count:]

    def _known(self) -> Facts:
        if time.monotonic() - self._asked > _KEPT_S:
            self._facts, self._asked = self._ask(), time.monotonic()
        return self._facts


def _options(command: click.Command) -> list[click.Option]:
    return [each for each in command.params if isinstance(each, click.Option) and not each.hidden]


def _expected(command: click.Command, rest: Sequence[str]) -> click.Parameter | None:
    """Return the option whose value, or the argument that, comes after the words."""
    options = {name: each for each in _options(command) for name in each.opts}
    last = options.get(rest[-1]) if rest else None
    if last is not None and not last.is_flag:
        return last
    given = _positional(rest, options)
    arguments = [each for each in command.params if isinstance(each, click.Argument)]
    for argument in arguments:
        if argument.nargs < 0 or given < argument.nargs:
            return argument
        given -= argument.nargs
    return None


def _positional(rest: Sequence[str], options: dict[str, click.Option]) -> int:
    """Return how many of the words are arguments: neither options nor their values."""
    count, is_value = 0, False
    for word in rest:
        if is_value:
            is_value = False
        elif word.startswith("-"):
            is_value = word in options and not options[word].is_flag
        else:
            count += 1
    return count
