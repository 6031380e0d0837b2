"""From what is typed to commands: several in a line, ``;`` between them, quotes as in a shell.

Owns the splitting, and finding the click command that words mean. Runs nothing.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

import click

from fedparty.errors import ConfigurationError

_SEPARATOR = ";"


def split(line: str) -> list[list[str]]:
    """Return the commands of a line, each as its words; none for an empty line or a comment.

    Raises
    ------
    ConfigurationError
        A quote is not closed.
    """
    if line.lstrip().startswith("#"):
        return []
    reader = shlex.shlex(line, posix=True, punctuation_chars=_SEPARATOR)
    reader.whitespace_split = True
    reader.commenters = ""
    try:
        return [command for command in _commands(list(reader)) if command]
    except ValueError as exc:
        raise ConfigurationError(f"{line.strip()}: a quote is not closed", hint="Close it.") from exc


def _commands(tokens: Sequence[str]) -> Iterator[list[str]]:
    command: list[str] = []
    for token in tokens:
        if token.strip(_SEPARATOR):
            command.append(token)
        else:
            yield command
            command = []
    yield command


def find(root: click.Group, words: Sequence[str]) -> tuple[click.Command, int]:
    """Return the innermost command that words lead to, and how many of them name it."""
    found: click.Command = root
    for count, word in enumerate(words):
        inner = found.get_command(click.Context(found), word) if isinstance(found, click.Group) else None
        if inner is None:
            return found, count
        found = inner
    return found, len(words)


def option(command: click.Command, name: str) -> click.Option | None:
    """Return a command's option by one of its spellings, e.g. ``--output``."""
    found = (each for each in command.params if isinstance(each, click.Option) and name in each.opts)
    return next(found, None)
